import { type NativeHandle, native } from './native.js';

/** What is known of an open file after its owner was collected. */
interface OpenRecord {
  handle: NativeHandle; // -1 when nothing is open
  description: string;
}

/**
 * The object whose collection shows that an owner forgot to close: only owners refer to it. Registering one
 * with a FinalizationRegistry costs more than an ioctl, so a sentinel whose owner did close is used again.
 */
export class Sentinel {
  readonly record: OpenRecord = { handle: -1, description: '' };
}

const maxSpare = 1024;
const spare: Sentinel[] = [];
const warned = new Set<string>();

const registry = new FinalizationRegistry<OpenRecord>((record) => {
  if (record.handle < 0) return;
  native.abandon(record.handle);
  record.handle = -1;
  // Once per kind of object: a leak in a loop must not flood the log.
  if (warned.has(record.description)) return;
  warned.add(record.description);
  process.emitWarning(
    `A ${record.description} was garbage-collected without close(). Its file descriptor has been closed now; ` +
      'close it yourself, or declare it with using, so that it goes when you are done with it',
    { type: 'DmaBufWarning', code: 'DMABUF_NOT_CLOSED' },
  );
});

/** Starts to watch over an open file. The owner keeps the sentinel and nothing else does. */
export function guard(handle: NativeHandle, description: string): Sentinel {
  let sentinel = spare.pop();
  if (sentinel === undefined) {
    sentinel = new Sentinel();
    registry.register(sentinel, sentinel.record);
  }
  sentinel.record.handle = handle;
  sentinel.record.description = description;
  return sentinel;
}

/** The owner closed the file itself, and forgets the sentinel. */
export function unguard(sentinel: Sentinel): void {
  sentinel.record.handle = -1;
  if (spare.length < maxSpare) spare.push(sentinel);
}
