import { debuglog } from 'node:util';
import { invalidType } from './check.js';
import { type CallSite, captureStack } from './errors.js';
import { register } from './intrinsics.js';
import { packageFolder } from './load-addon.js';
import { native, Register, type Slot, Yielded } from './native.js';

/** The classes whose objects own a descriptor. */
export type HandleType =
  | 'DmaBuf'
  | 'DmaHeap'
  | 'SyncFile'
  | 'DmaBufChannel'
  | 'DmaBufServer'
  | 'Memfd'
  | 'FdStream'
  | 'FdStreamServer';

/** An open object of this thread, as {@link openHandles} lists it. */
export interface OpenHandle {
  /** Which class the object is of. */
  type: HandleType;
  /** The descriptor, lent: do not close it. -1 when other code has closed it. */
  fd: number;
  /** For a dma-buf: identifies the buffer on the whole system. */
  inode?: number;
  /** For a dma-buf: its size in bytes. */
  size?: number;
  /** For a dma-buf: the exporter's name. */
  exporter?: string;
  /** For a dma-buf: its name; absent when unset. Any process that holds the buffer may have set it to any bytes. */
  name?: string;
  /** For a dma-buf: how many ranges of it this object has mapped. */
  mappings?: number;
  /** The stack of the call that made it, while tracking is on. */
  madeAt?: string;
}

/** What is known about an open file after its owner was collected. */
interface OpenRecord {
  slot: Slot; // -1 when nothing is open
  type: HandleType;
}

/**
 * The object whose collection shows that an owner was not closed: only its owner refers to it. To register one with a
 * FinalizationRegistry costs more than an ioctl, so the sentinel of an owner that was closed is used again.
 */
export class Sentinel {
  readonly record: OpenRecord = { slot: -1, type: 'DmaBuf' };
}

/** What a closed object has instead of its sentinel, which may watch over another object by then. */
export const noSentinel: Sentinel = new Sentinel();

const maxSpare = 1024;
const spare: (Sentinel | undefined)[] = [];
let spareCount = 0; // instead of the array's length: to shorten an array costs hundreds of instructions
const warned = new Set<string>();

/** `native.unclaimed`, which would cost a lookup. */
let claims: Float64Array | undefined;

let tracking: boolean = debuglog('dmabuf').enabled;
/** Where the open objects were made, for those made while tracking was on. */
const origins = new Map<Slot, string>();
/** Where the object that is being made was requested, if that was earlier. */
let askedFor: CallSite | undefined;

/**
 * Remembers from now on where every object is made, for {@link openHandles} and for the warning about an object that is
 * collected without `close()`. Costs a stack trace for each object. On from the start with `NODE_DEBUG=dmabuf`.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`
 */
export function setHandleTracking(enabled: boolean): void {
  if (typeof enabled !== 'boolean') throw invalidType('enabled', 'a boolean', enabled);
  tracking = enabled;
  if (!enabled) origins.clear();
}

let ownFolder: string | undefined;

/** Whether a frame is in the package's code. A bundler mixes this code with other code; then no frame is recognised. */
function isOwn(frame: string): boolean {
  ownFolder ??= packageFolder() === undefined ? '' : import.meta.url.replace(/[^/]*$/, '');
  return ownFolder !== '' && frame.includes(ownFolder);
}

/** The frames of the caller's code, without the first line. */
function callerFrames(stack: unknown): string {
  if (typeof stack !== 'string') return '';
  const frames = stack.split('\n').slice(1);
  const foreign = frames.findIndex((frame) => !isOwn(frame) && !frame.endsWith('(<anonymous>)'));
  return frames.slice(foreign < 0 ? 0 : foreign).join('\n');
}

/** The place of the present call, while tracking is on. */
export function placeOfCall(): CallSite | undefined {
  if (!tracking) return undefined;
  const site: CallSite = {};
  captureStack(site, placeOfCall);
  return site;
}

/** Runs `make`, whose object was requested at `site`. */
export function askedForAt<T>(site: CallSite | undefined, make: () => T): T {
  if (!tracking) return make();
  askedFor = site;
  try {
    return make();
  } finally {
    askedFor = undefined;
  }
}

/** Whether a check has failed for another reason than that the number now refers to another file. */
function isUndecided(error: unknown): boolean {
  const { code, errno } = error as { code?: string; errno?: number };
  return errno !== undefined && code !== 'EBADF';
}

/** What an open handle is. Throws nothing: other code may have closed the descriptor. */
export function describe(slot: Slot, type: HandleType): OpenHandle {
  const open: OpenHandle = { type, fd: -1 };
  let fd = -1;
  try {
    try {
      native.describe(slot);
    } finally {
      fd = native.registers[Register.fd] as number;
    }
    const { registers } = native;
    if (type === 'DmaBuf') {
      open.inode = registers[Register.inode] as number;
      open.size = registers[Register.size] as number;
    }
    native.verify(slot);
    open.fd = fd;
    if (type !== 'DmaBuf') return open;
    const info = native.info(slot);
    const name = info[1];
    open.exporter = info[0];
    if (name !== undefined) open.name = name;
  } catch (error) {
    // What is known so far has to suffice.
    if (isUndecided(error)) open.fd = fd;
  }
  return open;
}

/** In quotes; characters that JSON does not escape may still control a terminal or change the direction of text. */
function quote(text: string): string {
  return JSON.stringify(text).replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`,
  );
}

/** A collected object in words. The name is untrusted: in quotes, it cannot forge a line of a log. */
function inWords({ type, inode, size, exporter, name }: OpenHandle): string {
  if (inode === undefined) return type.startsWith('F') ? `An ${type}` : `A ${type}`;
  const details = [`inode ${inode}`, exporter, name === undefined ? undefined : quote(name)];
  return `A ${type} of ${size} bytes (${details.filter((detail) => detail !== undefined).join(', ')})`;
}

/** Runs in a finalizer, and so throws nothing. */
function closeCollected(record: OpenRecord): void {
  const { slot, type } = record;
  if (slot < 0) return;
  record.slot = -1;
  const origin = origins.get(slot);
  origins.delete(slot);
  // Once for each type of object, or for each place: a leak in a loop must not flood the log.
  const about = `${type}${origin ?? ''}`;
  const first = !warned.has(about);
  const what = first ? inWords(describe(slot, type)) : '';
  try {
    native.abandon(slot);
  } catch {
    // Nothing can be done here, and nobody could catch it.
  }
  if (!first) return;
  warned.add(about);
  process.emitWarning(
    `${what} was garbage-collected without close(). Its file descriptor has been closed now; close it yourself, or ` +
      'declare it with using, which closes it at the end of the block. ' +
      (origin === undefined
        ? 'NODE_DEBUG=dmabuf or setHandleTracking(true) shows where such objects are made'
        : `It was made here:\n${origin}`),
    { type: 'DmaBufWarning', code: 'DMABUF_NOT_CLOSED' },
  );
}

let registry: FinalizationRegistry<OpenRecord> | undefined;

/** A program may have replaced Error.prepareStackTrace: a failure there must not lose the object. */
// biome-ignore lint/complexity/noBannedTypes: V8 leaves out all frames above any function.
function placeOfMaking(maker: Function): string {
  const site: CallSite = askedFor ?? {};
  if (askedFor === undefined) captureStack(site, maker);
  try {
    return callerFrames(site.stack);
  } catch {
    return '';
  }
}

/**
 * Starts to watch over an open file that the addon has just yielded, and so claims it. Only the owner may keep the
 * sentinel.
 *
 * @param maker The function that creates the owner: what it calls is left out of the stack, which has few frames.
 * @param place The position in a message or a pair at which the addon has yielded it.
 */
// biome-ignore lint/complexity/noBannedTypes: the same.
export function guard(slot: Slot, type: HandleType, maker: Function, place: number = Yielded.only): Sentinel {
  if (tracking) origins.set(slot, placeOfMaking(maker));
  let sentinel = takeSpare();
  if (sentinel === undefined) {
    sentinel = new Sentinel();
    registry ??= new FinalizationRegistry<OpenRecord>(closeCollected);
    register(registry, sentinel, sentinel.record);
  }
  sentinel.record.slot = slot;
  sentinel.record.type = type;
  // From here on the collection of the sentinel closes it, whatever happens to its owner. No other code runs between the
  // two.
  claims ??= native.unclaimed;
  claims[place] = 0;
  return sentinel;
}

/**
 * The owner closed the file itself, and has recorded this in the sentinel before it called anything: a sentinel must not
 * close a file that no longer belongs to its owner. The owner must drop its reference, which would hide the loss of the
 * next owner.
 */
export function unguard(sentinel: Sentinel, slot: Slot): void {
  if (tracking) origins.delete(slot);
  if (spareCount < maxSpare) spare[spareCount++] = sentinel;
}

function takeSpare(): Sentinel | undefined {
  if (spareCount === 0) return undefined;
  const sentinel = spare[--spareCount];
  spare[spareCount] = undefined; // so that it is not kept alive
  return sentinel;
}

/** By their numbers in the addon (HandleKind, native/js/handles.h). */
const types: readonly (HandleType | undefined)[] = [
  undefined,
  'DmaHeap',
  'DmaBuf',
  'SyncFile',
  'DmaBufChannel',
  'DmaBufServer',
  'Memfd',
  undefined, // a descriptor that waits to be sent, a lock, a place and a lookup
  undefined,
  undefined,
  undefined,
  'FdStream',
  'FdStreamServer',
];

/**
 * Every object of this thread that owns a descriptor and has not been closed, including those of pools, in the order in
 * which they were made. They keep memory; at the end of a test there should be none.
 */
export function openHandles(): OpenHandle[] {
  const count = 3 * native.listHandles(new Float64Array(0));
  const numbers = new Float64Array(count);
  native.listHandles(numbers);
  const handles: OpenHandle[] = [];
  for (let index = 0; index < count; index += 3) {
    const slot = numbers[index] as number;
    const type = types[numbers[index + 1] as number];
    if (type === undefined) continue;
    const open = describe(slot, type);
    if (type === 'DmaBuf') open.mappings = numbers[index + 2] as number;
    const origin = origins.get(slot);
    if (origin !== undefined) open.madeAt = origin;
    handles.push(open);
  }
  return handles;
}
