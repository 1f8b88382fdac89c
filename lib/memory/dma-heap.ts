import { closeSync, constants, existsSync, openSync, readdirSync } from 'node:fs';
import { basename } from 'node:path';
import { throwIfAborted } from '../abort.js';
import type { DmaBuf } from '../buffer/dma-buf.js';
import {
  type Access,
  accessModeOf,
  checkFlag,
  checkName,
  checkSignal,
  checkSize,
  invalidType,
  outOfRange,
  readOptions,
} from '../check.js';
import { type CallSite, callSite, createError, DmaBufError, partsOf } from '../errors.js';
import { escapeName } from '../escape.js';
import { type NativeHandle, native } from '../native.js';
import { brand, OpenFile, own } from '../open-file.js';
import { showDetails } from '../present.js';
import { finishAllocation, runAllocation } from './allocation.js';
import { withDeviceAdvice } from './device-advice.js';
import { type DeviceKind, heapFolder, isNamed, realPathOf, strangerAt } from './device-files.js';
import { guardMemory, kindOfHeapMemory, type MemoryKind, whileReserved } from './memory-guard.js';

/** What a new buffer shall be. */
export interface BufferOptions {
  /** For debugging tools: at most 31 bytes of UTF-8, without NUL. */
  name?: string | undefined;
  /**
   * Of the file descriptor, and of its duplicates wherever they go. Default `'read-write'`; only such a one can be mapped
   * for JavaScript. udmabuf makes no others.
   */
  access?: Access | undefined;
  /** Skips the memory guard: the kernel then kills processes rather than refuse. Default false. */
  unchecked?: boolean | undefined;
}

/** The names of the options. */
export const bufferOptions: readonly string[] = ['name', 'access', 'unchecked'];
const cancellableOptions: readonly string[] = [...bufferOptions, 'signal'];

/** What kind of memory a heap gives, told from its name. */
export type HeapKind = 'system' | 'cma' | 'protected' | 'shared' | 'unknown';

/** A heap as {@link DmaHeap.list} found it. */
export interface HeapInfo {
  /** Name of the device, with symbolic links resolved. */
  name: string;
  /** Path of the device, with symbolic links resolved. */
  path: string;
  /**
   * `system`: any pages; `cma`: physically contiguous; `protected`: for secure video, not for the CPU;
   * `shared`: visible to the host of a confidential guest.
   */
  kind: HeapKind;
  /** Whether this process may open it, which is all it takes to allocate. */
  accessible: boolean;
  /**
   * Why not: the errno's name, `'EACCES'` most often, `'ENOTTY'` where something else lies there; `DmaHeap.open()` then says
   * what to do. Absent when it is accessible.
   */
  error?: string;
  /**
   * What names it too: symbolic links beside it, and the other device of the default contiguous region, which has two since
   * Linux 6.17. Absent when there are none.
   */
  aliases?: string[];
}

/** Names of contiguous heaps in the order of preference, from the kernel's versions and from vendors. */
const contiguousNames = [
  'default_cma_region', // Linux 6.17
  'linux,cma',
  'reserved',
  'default-pool',
  'cma',
  'linux,cma-uncached',
];

/** The default contiguous region since Linux 6.17. */
const defaultRegion = contiguousNames[0] as string;

/** What else it may be called: the kernel's document userspace-api/dma-buf-heaps. */
const olderNames = new Set(['linux,cma', 'reserved', 'default-pool']);

function kindOf(name: string): HeapKind {
  if (name === 'system_cc_shared') return 'shared';
  if (name === 'system' || name.startsWith('system-')) return 'system';
  if (contiguousNames.includes(name) || name.startsWith('linux,cma@')) return 'cma';
  if (name.startsWith('protected')) return 'protected';
  return 'unknown';
}

function errorCode(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}

function describe(path: string): HeapInfo {
  const name = basename(path);
  return { name, path, kind: kindOf(name), ...access(path) };
}

/** Whether the device can be opened, and if not, why; `ENOTTY` where something else lies there, which is not opened. */
export function access(path: string, kind: DeviceKind = 'heap'): Pick<HeapInfo, 'accessible' | 'error'> {
  // A worker that is being terminated must not be told by an exception (see text-file.ts); nor can existsSync() be asked,
  // which the device control group answers as it answers open(2).
  if (!isNamed(path)) return { accessible: false, error: 'ENOENT' };
  if (strangerAt(path, kind) !== undefined) return { accessible: false, error: 'ENOTTY' };
  try {
    closeSync(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY));
    return { accessible: true };
  } catch (error) {
    return { accessible: false, error: errorCode(error) };
  }
}

/**
 * What `/dev/dma_heap` has. Where its names may not be read, those heaps that have a usual name, if they can be reached, and
 * the folder itself in place of those that cannot be seen.
 */
function listHeaps(): HeapInfo[] {
  const heaps = new Map<string, HeapInfo>();
  const links: [string, string][] = [];
  for (const entry of namesOf(heaps).sort()) {
    const path = `${heapFolder}/${entry}`;
    const target = realPathOf(path);
    if (target === path) heaps.set(path, describe(path));
    else links.push([entry, target]);
  }
  for (const [alias, target] of links) {
    const path = `${heapFolder}/${alias}`;
    if (strangerAt(target, 'heap') !== undefined) {
      heaps.set(path, describe(path));
      continue;
    }
    const heap = heaps.get(target) ?? describe(target);
    heaps.set(target, heap);
    heap.aliases = [...(heap.aliases ?? []), alias];
  }
  joinDefaultRegion(heaps);
  return [...heaps.values()];
}

/**
 * The default contiguous region has a second device under its older name. It is one heap: the newer name stands for it, unless
 * only the older one may be used.
 */
function joinDefaultRegion(heaps: Map<string, HeapInfo>): void {
  const newer = heaps.get(`${heapFolder}/${defaultRegion}`);
  const [older, ...others] = [...heaps.values()].filter(({ name }) => olderNames.has(name));
  // Of several, nobody knows which is the one.
  if (newer === undefined || older === undefined || others.length > 0) return;
  const [heap, other] = newer.accessible || !older.accessible ? [newer, older] : [older, newer];
  heaps.delete(other.path);
  heap.aliases = [other.name, ...(heap.aliases ?? []), ...(other.aliases ?? [])];
}

function namesOf(heaps: Map<string, HeapInfo>): string[] {
  if (!mayExist(heapFolder)) return [];
  try {
    return readdirSync(heapFolder);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    const name = basename(heapFolder);
    heaps.set(heapFolder, {
      name,
      path: heapFolder,
      kind: 'unknown',
      accessible: false,
      error: errorCode(error),
    });
    return ['system', ...contiguousNames].filter((heap) => mayExist(`${heapFolder}/${heap}`));
  }
}

/** Deno throws where it does not allow a look; a folder that may not be listed stands for what cannot be seen. */
function mayExist(path: string): boolean {
  try {
    return existsSync(path);
  } catch {
    return false;
  }
}

/** A heap's name, alias or path, whether it exists or not. */
export function checkHeapName(heap: unknown): string {
  if (typeof heap !== 'string') throw invalidType('heap', "a heap's name or path", heap);
  if (heap === '' || heap.includes('\0')) throw outOfRange('heap', 'not empty and without NUL', heap);
  return heap;
}

/** Where to find a heap that was asked for by name, alias or path. */
function resolveHeap(asked: unknown): string {
  const heap = checkHeapName(asked);
  if (heap.includes('/')) return heap;
  if (heap !== 'cma') return `${heapFolder}/${heap}`;
  const heaps = listHeaps().filter((info) => info.kind === 'cma');
  const rank = (info: HeapInfo): number => (contiguousNames.indexOf(info.name) + 100) % 100;
  const [best] = heaps.sort((a, b) => Number(b.accessible) - Number(a.accessible) || rank(a) - rank(b));
  return best?.path ?? `${heapFolder}/cma`;
}

/** Of what is in the list and is no heap at all. */
const isNoHeap = new Set<string | undefined>(['ENOTTY', 'ENOENT', 'ELOOP']);

function openNative(path: string): NativeHandle {
  try {
    return withDeviceAdvice(path, 'heap', () => native.openHeap(path));
  } catch (error) {
    if (!(error instanceof DmaBufError) || error.code !== 'ENOENT') throw error;
    const names = listHeaps().flatMap(({ name, error: why }) =>
      isNoHeap.has(why) ? [] : [escapeName(name)],
    );
    const found = names.length === 0 ? 'There is no heap here' : `Heaps here: ${names.join(', ')}`;
    throw createError(error.errno as number, error.syscall, path, [...partsOf(error).advice, found]);
  }
}

const readWrite = accessModeOf('read-write');

/** What a heap is asked for. */
interface Request {
  name: string | undefined;
  accessMode: number;
}

/** Finds every fault of a request; the options have been read. */
function checkRequest(size: number, options: BufferOptions, memory: MemoryKind): Request {
  checkSize(size);
  const { access, name, unchecked } = options;
  const accessMode = access === undefined ? readWrite : accessModeOf(access);
  if (name !== undefined) checkName(name);
  if (!checkFlag(unchecked, 'unchecked')) guardMemory(size, memory);
  return { name, accessMode };
}

/** The same as `heap.allocate()`, with options that have been read, and a signal that has been looked at. */
export let allocateOn: (
  heap: DmaHeap,
  size: number,
  options: BufferOptions,
  signal: AbortSignal | undefined,
) => Promise<DmaBuf>;

/**
 * An open dma-buf heap: a device under `/dev/dma_heap` that allocates dma-bufs (Linux 5.6, CONFIG_DMABUF_HEAPS; the
 * kernel's document userspace-api/dma-buf-heaps). The object owns its descriptor until `close()`.
 *
 * @example
 * using heap = DmaHeap.open('system');
 * using buffer = await heap.allocate(1 << 20, { name: 'frame' });
 */
export class DmaHeap implements Disposable {
  static {
    showDetails(DmaHeap.prototype, 'DmaHeap');
  }

  static {
    allocateOn = async (heap, size, options, signal) => {
      DmaHeap.#of(heap).#file.checkOpen();
      const request = checkRequest(size, options, heap.#memory);
      return await heap.#allocate(size, request, signal, callSite(allocateOn));
    };
  }

  readonly #file: OpenFile;
  readonly #path: string;
  readonly #name: string;
  readonly #memory: MemoryKind;

  private constructor(file: OpenFile, path: string, memory: MemoryKind) {
    this.#file = own(this, file, 'DmaHeap', 'DmaHeap.open()');
    this.#path = path;
    this.#name = basename(path);
    this.#memory = memory;
  }

  /**
   * Every heap on this machine, whether this process may use it or not; `[]` where there is none. A heap that
   * symbolic links name as well is listed once, and so is the default contiguous region, which has two devices. Where the folder `/dev/dma_heap` may not be listed, it stands itself among
   * the heaps, with the error, for those that cannot be seen.
   */
  static list(): HeapInfo[] {
    return listHeaps();
  }

  /**
   * Opens a heap.
   *
   * @param heap A name (`'system'`), the alias `'cma'` for whatever the contiguous heap is called on this
   *   kernel, or a path.
   * @throws DmaBufError `EACCES` or `EPERM` (with what denies it: the device's modes, a folder's, a mount, a container's
   *   rules for devices, and the cure), `ENOENT` (with the heaps that exist), `ENOTTY` (what lies there is not a heap, and
   *   was not opened)
   */
  static open(heap: string): DmaHeap {
    const asked = resolveHeap(heap);
    const handle = openNative(asked);
    const path = realPathOf(asked);
    const memory = kindOf(basename(path)) === 'cma' ? 'contiguous' : kindOfHeapMemory();
    return new DmaHeap(new OpenFile(handle, 'DmaHeap'), path, memory);
  }

  static readonly #of = brand('DmaHeap', (self) => (#file in self ? self : undefined));

  /** The device's name, with symbolic links resolved. */
  get name(): string {
    return DmaHeap.#of(this).#name;
  }

  /** The device's path, with symbolic links resolved. */
  get path(): string {
    return DmaHeap.#of(this).#path;
  }

  /** The file descriptor, lent. -1 once closed. */
  get fd(): number {
    return DmaHeap.#of(this).#file.fd;
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return DmaHeap.#of(this).#file.closed;
  }

  /**
   * Allocates zeroed memory on the thread pool (DMA_HEAP_IOCTL_ALLOC). When `signal` aborts, the promise rejects at once
   * with its reason, and what the kernel still delivers is closed.
   *
   * @param size Bytes; rounded up to pages.
   * @throws DmaBufError `ENOMEM`, `EMFILE`, `ERR_DMABUF_MEMORY_GUARD` (more than is available)
   */
  async allocate(
    size: number,
    options?: BufferOptions & { signal?: AbortSignal | undefined },
  ): Promise<DmaBuf> {
    const heap = DmaHeap.#of(this);
    heap.#file.checkOpen();
    const { signal: given, ...wanted } = readOptions(options, cancellableOptions);
    const request = checkRequest(size, wanted, heap.#memory);
    const signal = checkSignal(given);
    throwIfAborted(signal);
    return await heap.#allocate(size, request, signal, callSite(DmaHeap.prototype.allocate));
  }

  #allocate(
    size: number,
    { name, accessMode }: Request,
    signal: AbortSignal | undefined,
    site: CallSite,
  ): Promise<DmaBuf> {
    return runAllocation(
      whileReserved(size, this.#memory, (done) =>
        native.allocateAsync(this.#file.handle, size, accessMode, done),
      ),
      { name, signal },
      this.#name,
      site,
    );
  }

  /**
   * Allocates zeroed memory now (DMA_HEAP_IOCTL_ALLOC). **Blocks** the thread: the kernel clears every page, which takes
   * the longer the larger the buffer is.
   *
   * @param size Bytes; rounded up to pages.
   * @throws DmaBufError `ENOMEM`, `EMFILE`, `ERR_DMABUF_MEMORY_GUARD` (more than is available)
   */
  allocateSync(size: number, options?: BufferOptions): DmaBuf {
    const heap = DmaHeap.#of(this);
    heap.#file.checkOpen();
    const { name, accessMode } = checkRequest(size, readOptions(options, bufferOptions), heap.#memory);
    return finishAllocation(native.allocateSync(heap.#file.handle, size, accessMode), name, heap.#name);
  }

  /** Closes the heap; buffers and pending allocations are not affected. Does nothing the second time. */
  close(): void {
    DmaHeap.#of(this).#file.close();
  }

  /** What the heap is, for logs and as JSON. */
  toJSON(): object {
    const heap = DmaHeap.#of(this);
    return { type: 'DmaHeap', name: heap.#name, path: heap.#path, ...heap.#file.show() };
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    DmaHeap.#of(this).#file.close();
  }
}
