import { debuglog } from 'node:util';
import { invalidType } from './check.js';
import { type CallSite, captureStack } from './errors.js';
import { register } from './intrinsics.js';
import { packageFolder } from './load-addon.js';
import { native, Register, type Slot, Yielded } from './native.js';

/** The classes whose objects own a descriptor. */
export type HandleType = 'DmaBuf' | 'DmaHeap' | 'SyncFile' | 'DmaBufChannel' | 'DmaBufServer' | 'Memfd';

/** An open object of this thread, as {@link openHandles} lists it. */
export interface OpenHandle {
  /** Which class the object is of. */
  type: HandleType;
  /** The descriptor, lent: do not close it. -1 when it was closed behind the object's back. */
  fd: number;
  /** Of a dma-buf: identifies the buffer on the whole system. */
  inode?: number;
  /** Of a dma-buf: bytes. */
  size?: number;
  /** Of a dma-buf: the exporter's name. */
  exporter?: string;
  /** Of a dma-buf: absent when unset. Any user of the buffer may have set it to any bytes. */
  name?: string;
  /** Of a dma-buf: how many ranges of it this object has mapped. */
  mappings?: number;
  /** The stack of the call that made it, while tracking is on. */
  madeAt?: string;
}

/** What is known of an open file after its owner was collected. */
interface OpenRecord {
  slot: Slot; // -1 when nothing is open
  type: HandleType;
}

/**
 * The object whose collection shows that an owner forgot to close: only owners refer to it. Registering one
 * with a FinalizationRegistry costs more than an ioctl, so a sentinel whose owner did close is used again.
 */
export class Sentinel {
  readonly record: OpenRecord = { slot: -1, type: 'DmaBuf' };
}

/** What a closed object has in its sentinel's place: its sentinel may watch over another object by then. */
export const noSentinel: Sentinel = new Sentinel();

const maxSpare = 1024;
const spare: (Sentinel | undefined)[] = [];
let spareCount = 0; // not its length: to shorten an array costs hundreds of instructions
const warned = new Set<string>();

/** `native.unclaimed`, which costs a look-up. */
let claims: Float64Array | undefined;

let tracking: boolean = debuglog('dmabuf').enabled;
/** Where the open objects were made that were made while tracking was on. */
const origins = new Map<Slot, string>();
/** Where the object that is being made was asked for, when that was earlier. */
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

/** Whether a frame is the package's. A bundler mixes its code with other code: then none is known to be. */
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

/** Runs `make`; what it makes was asked for at `site`. */
export function askedForAt<T>(site: CallSite | undefined, make: () => T): T {
  if (!tracking) return make();
  askedFor = site;
  try {
    return make();
  } finally {
    askedFor = undefined;
  }
}

/** Whether a check has failed without telling that the number is somebody else's by now. */
function isUndecided(error: unknown): boolean {
  const { code, errno } = error as { code?: string; errno?: number };
  return errno !== undefined && code !== 'EBADF';
}

/** What an open handle is. Throws nothing: a descriptor may have been closed behind its owner's back. */
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
    // What is known so far has to do.
    if (isUndecided(error)) open.fd = fd;
  }
  return open;
}

/** In quotes; what JSON leaves as it is may still move a terminal's cursor or turn its text round. */
function quote(text: string): string {
  return JSON.stringify(text).replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`,
  );
}

/** A collected object in words. The name is anybody's: quoted, it cannot forge a line of a log. */
function inWords({ type, inode, size, exporter, name }: OpenHandle): string {
  if (inode === undefined) return `A ${type}`;
  const details = [`inode ${inode}`, exporter, name === undefined ? undefined : quote(name)];
  return `A ${type} of ${size} bytes (${details.filter((detail) => detail !== undefined).join(', ')})`;
}

/** Runs in a finalizer: whatever happens, it throws nothing. */
function closeCollected(record: OpenRecord): void {
  const { slot, type } = record;
  if (slot < 0) return;
  record.slot = -1;
  const origin = origins.get(slot);
  origins.delete(slot);
  // Once per type of object, or per place: a leak in a loop must not flood the log.
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
      'declare it with using, so that it goes when you are done with it. ' +
      (origin === undefined
        ? 'NODE_DEBUG=dmabuf or setHandleTracking(true) shows where such objects are made'
        : `It was made here:\n${origin}`),
    { type: 'DmaBufWarning', code: 'DMABUF_NOT_CLOSED' },
  );
}

let registry: FinalizationRegistry<OpenRecord> | undefined;

/** Whatever the program has made of stack traces (Error.prepareStackTrace): it must not cost the object. */
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
 * Starts to watch over an open file that the addon has just yielded, and so claims it. The owner keeps the sentinel and
 * nothing else does.
 *
 * @param maker Who is being made: what that calls is no part of the stack, which has few frames.
 * @param place Where in a message or a pair the addon has yielded it.
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
  // From here on the sentinel's end closes it, whatever happens to its owner. Nothing is called between the two.
  claims ??= native.unclaimed;
  claims[place] = 0;
  return sentinel;
}

/**
 * The owner closed the file itself, and has said so in the sentinel's record, before it called anything: a sentinel must not
 * close what is no longer its owner's. The owner must forget it, since a reference would keep the next owner's loss from
 * being seen.
 */
export function unguard(sentinel: Sentinel, slot: Slot): void {
  if (tracking) origins.delete(slot);
  if (spareCount < maxSpare) spare[spareCount++] = sentinel;
}

function takeSpare(): Sentinel | undefined {
  if (spareCount === 0) return undefined;
  const sentinel = spare[--spareCount];
  spare[spareCount] = undefined; // it must not be kept alive
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
];

/** Open files of no object: the library keeps them for itself. */
const hidden = new Set<Slot>();

/** The slot is the library's own from now on. */
export function hideHandle(slot: Slot): void {
  hidden.add(slot);
}

/** Undoes {@link hideHandle}, before the slot is closed. */
export function showHandle(slot: Slot): void {
  hidden.delete(slot);
}

/**
 * Every object of this thread that owns a descriptor and has not been closed, those of pools included, in the order in which
 * they were made: what keeps memory, and what a test should find gone.
 */
export function openHandles(): OpenHandle[] {
  const count = 3 * native.listHandles(new Float64Array(0));
  const numbers = new Float64Array(count);
  native.listHandles(numbers);
  const handles: OpenHandle[] = [];
  for (let index = 0; index < count; index += 3) {
    const slot = numbers[index] as number;
    const type = types[numbers[index + 1] as number];
    if (type === undefined || hidden.has(slot)) continue;
    const open = describe(slot, type);
    if (type === 'DmaBuf') open.mappings = numbers[index + 2] as number;
    const origin = origins.get(slot);
    if (origin !== undefined) open.madeAt = origin;
    handles.push(open);
  }
  return handles;
}
