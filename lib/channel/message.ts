import { bufferOf, createDmaBuf, type DmaBuf, isDmaBuf } from '../buffer/dma-buf.js';
import { checkFd, closedError, invalidType, isObject, outOfRange } from '../check.js';
import { createSyncFile, isSyncFile, type SyncFile, slotOfSyncFile } from '../fence/sync-file.js';
import { isArray, isInteger, itemsOf } from '../intrinsics.js';
import { native, Register, type Slot, Yielded } from '../native.js';

/** What can be sent: a dma-buf, a sync_file, or any open file by the number of its descriptor. */
export type Sendable = DmaBuf | SyncFile | number;

/**
 * A received message. Its handles are yours: close them by disposing the message, or one by one.
 *
 * @example
 * using message = await channel.receive();
 * const [buffer] = message.buffers;
 */
export interface ChannelMessage extends Disposable {
  /** The bytes, in memory of their own; empty if only handles were sent. */
  data: Uint8Array;
  /**
   * The handles in the order in which they were sent: dma-bufs, sync_files, or descriptors of other files. Disposing the
   * message closes all that are in this array: take out of it what you keep, and numbers that you have closed.
   */
  handles: Sendable[];
  /** The dma-bufs among the handles, in the same order. */
  readonly buffers: DmaBuf[];
}

/** What has arrived. */
export class ReceivedMessage implements ChannelMessage {
  data: Uint8Array;
  handles: Sendable[];

  constructor(data: Uint8Array, handles: Sendable[]) {
    this.data = data;
    this.handles = handles;
  }

  get buffers(): DmaBuf[] {
    const buffers: DmaBuf[] = [];
    for (let index = 0; index < this.handles.length; index++) {
      const handle = this.handles[index];
      if (isDmaBuf(handle)) buffers[buffers.length] = handle;
    }
    return buffers;
  }

  [Symbol.dispose](): void {
    const { handles } = this;
    this.handles = [];
    closeHandles(handles);
  }
}

/** SCM_MAX_FD: most handles in a message. */
const maxHandles = 253;

// Taken when this is loaded: see intrinsics.ts.
const Numbers = Float64Array;

/** The items of a list of handles, each read once. */
function readList(handles: readonly Sendable[], most: number): Sendable[] {
  if (!isArray(handles)) throw invalidType('handles', 'an array', handles);
  const { length } = handles;
  if (length > most) throw outOfRange('handles', `at most ${most}`, length);
  return itemsOf(handles, length);
}

/** The number that a handle stands for; -1 for an object of this copy's. */
function numberOf(item: Sendable): number {
  if (isDmaBuf(item) || isSyncFile(item)) return -1;
  const fd = fdOfCopy(item);
  if (fd >= 0) return fd;
  if (typeof item !== 'number') {
    throw invalidType('handles', 'DmaBufs, SyncFiles or numbers of descriptors', item);
  }
  return checkFd(item, 'handle');
}

/** What will be sent: objects of this copy of the package, and numbers. From here on no code of the caller runs. */
export function readSendables(handles: readonly Sendable[]): (DmaBuf | SyncFile | number)[] {
  const items = readList(handles, maxHandles);
  for (let index = 0; index < items.length; index++) {
    const number = numberOf(items[index] as Sendable);
    if (number >= 0) items[index] = number;
  }
  return items;
}

/**
 * Closes received handles: buffers, sync_files and plain descriptors. It also closes the numbers that {@link createMemfd}
 * and `release()` return, in every thread and without a warning of Node.js; close files that `node:fs` has opened with
 * `node:fs`. All are closed even if one fails; then the first error is thrown.
 *
 * Closing another process's file may block (FUSE, NFS, a socket that lingers). A separate thread closes such files;
 * this function sometimes waits for it, for some milliseconds at most. Until then the number stays in use.
 *
 * @throws DmaBufError `EBADF` for a number that is not open
 */
export function closeHandles(handles: readonly Sendable[]): void {
  const items = readList(handles, Number.POSITIVE_INFINITY);
  for (let index = 0; index < items.length; index++) numberOf(items[index] as Sendable);
  const numbers = new Numbers(items.length);
  let count = 0;
  let failure: unknown;
  for (let index = 0; index < items.length; index++) {
    const item = items[index] as Sendable;
    if (typeof item === 'number') numbers[count++] = item;
    else {
      try {
        item.close();
      } catch (error) {
        failure ??= error;
      }
    }
  }
  if (count > 0) native.closeNumbers(numbers, count);
  if (failure !== undefined) throw failure;
}

/** The descriptor of an object of another copy of this package (another version, or loaded twice); -1 for anything else. */
function fdOfCopy(item: unknown): number {
  if (!isObject(item)) return -1;
  const { constructor: type, fd } = item as { constructor?: { name?: unknown }; fd?: unknown };
  if (type?.name !== 'DmaBuf' && type?.name !== 'SyncFile') return -1;
  if (typeof fd === 'number' && fd < 0) throw closedError(type.name);
  return typeof fd === 'number' && isInteger(fd) ? fd : -1;
}

/** The slot of an object. */
function slotOf(item: DmaBuf | SyncFile): Slot {
  return isDmaBuf(item) ? bufferOf(item).slot : slotOfSyncFile(item);
}

/** Puts the handles where the addon looks for them. */
export function writeSendables(handles: readonly Sendable[]): void {
  const { registers } = native;
  for (let index = 0; index < handles.length; index++) {
    const item = handles[index] as Sendable;
    const isNumber = typeof item === 'number';
    registers[Register.handles + 2 * index] = isNumber ? 0 : 1;
    registers[Register.handles + 2 * index + 1] = isNumber ? item : slotOf(item);
  }
}

/** Copies of the handles, for a message that has to wait while its sender may close them. */
export function hold(handles: readonly Sendable[], channel: Slot): Slot[] {
  const held: Slot[] = [];
  try {
    for (let index = 0; index < handles.length; index++) {
      const item = handles[index] as Sendable;
      const isNumber = typeof item === 'number';
      held[index] = native.hold(channel, !isNumber, isNumber ? item : slotOf(item));
      native.unclaimed[Yielded.only] = 0;
    }
    return held;
  } catch (error) {
    closeAll(held);
    throw error;
  }
}

/** What tells the dma-bufs among the handles from others, for those who look on: without those that are closed. */
export function inodesOf(handles: readonly Sendable[]): number[] {
  const inodes: number[] = [];
  for (const item of handles) {
    if (!isDmaBuf(item)) continue;
    try {
      inodes.push(bufferOf(item).inode);
    } catch {
      // Sending it says why.
    }
  }
  return inodes;
}

/** Closes them. */
export function closeAll(held: readonly Slot[]): void {
  for (let index = 0; index < held.length; index++) native.close(held[index] as Slot);
}

/** The handles that the addon has left in its registers. */
export function readHandles(): Sendable[] {
  const { registers } = native;
  const handles: Sendable[] = [];
  for (let index = 0, count = registers[Register.handleCount] as number; index < count; index++) {
    const kind = registers[Register.handles + 2 * index];
    const value = registers[Register.handles + 2 * index + 1] as number;
    if (kind === 1) handles[index] = createDmaBuf(value, undefined, index);
    else handles[index] = kind === 2 ? createSyncFile(value, index) : value;
  }
  return handles;
}
