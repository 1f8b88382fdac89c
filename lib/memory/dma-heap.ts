import { basename } from 'node:path';
import { throwIfAborted } from '../abort.js';
import type { DmaBuf } from '../buffer/dma-buf.js';
import { checkSignal, readOptions } from '../check.js';
import { type CallSite, callSite, createError, DmaBufError, partsOf } from '../errors.js';
import { escapeName } from '../escape.js';
import { native, type Slot } from '../native.js';
import { brand, OpenFile, own } from '../open-file.js';
import { showDetails } from '../present.js';
import { isTracedSync, traceAsync } from '../tracing.js';
import {
  type AllocateTrace,
  allocateTracing,
  finishAllocation,
  runAllocation,
  traceAllocationSync,
} from './allocation.js';
import { withDeviceAdvice } from './device-advice.js';
import { realPathOf } from './device-files.js';
import { type HeapInfo, kindOf, listHeaps, resolveHeap } from './heap-list.js';
import { guardMemory, kindOfHeapMemory, type MemoryKind, whileReserved } from './memory-guard.js';
import { type BufferOptions, type BufferRequest, bufferOptions, checkRequest } from './request.js';

const cancellableOptions: readonly string[] = [...bufferOptions, 'signal'];

/** For an entry of the list that is not a heap. */
const isNoHeap = new Set<string | undefined>(['ENOTTY', 'ENOENT', 'ELOOP']);

function openNative(path: string): Slot {
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

/** Allocates what was requested and checked, unless the heap is closed; `site` is the user's call. */
export let allocateOn: (
  heap: DmaHeap,
  request: BufferRequest,
  signal: AbortSignal | undefined,
  site: CallSite,
) => Promise<DmaBuf>;

/** The same, synchronously. */
export let allocateOnSync: (heap: DmaHeap, request: BufferRequest) => DmaBuf;

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
    allocateOn = async (heap, request, signal, site) => {
      const { slot } = DmaHeap.#of(heap).#file.checkOpen();
      const { size, accessMode } = request;
      if (!request.unchecked) guardMemory(size, heap.#memory);
      const start = whileReserved(size, heap.#memory, (done) =>
        native.allocateAsync(slot, size, accessMode, done),
      );
      return await runAllocation(start, request, signal, heap.#name, site);
    };
    allocateOnSync = (heap, { size, name, accessMode, unchecked }) => {
      const { slot } = DmaHeap.#of(heap).#file.checkOpen();
      if (!unchecked) guardMemory(size, heap.#memory);
      return finishAllocation(native.allocateSync(slot, size, accessMode), name, heap.#name);
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
   * Every heap on this machine, whether this process may use it or not; `[]` if there is none. A heap that also has
   * symbolic links is listed once, and so is the default contiguous region, which has two devices. If the folder
   * `/dev/dma_heap` may not be listed, the list contains the folder itself, with the error, in place of the heaps that
   * cannot be seen.
   */
  static list(): HeapInfo[] {
    return listHeaps();
  }

  /**
   * Opens a heap.
   *
   * @param heap A name (`'system'`), the alias `'cma'` for whatever the contiguous heap is called on this
   *   kernel, or a path.
   * @throws DmaBufError `EACCES` or `EPERM` (with the cause, which may be the mode of the device or of a folder, a mount,
   *   or a container's rules for devices, and the fix), `ENOENT` (with the heaps that exist), `ENOTTY` (the path is not a
   *   heap, and was not opened)
   */
  static open(heap: string): DmaHeap {
    const asked = resolveHeap(heap);
    const slot = openNative(asked);
    const path = realPathOf(asked);
    const memory = kindOf(basename(path)) === 'cma' ? 'contiguous' : kindOfHeapMemory();
    return new DmaHeap(new OpenFile(slot, 'DmaHeap'), path, memory);
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
   * with its reason, and a buffer that the kernel still delivers is closed.
   *
   * @param size Bytes; rounded up to pages.
   * @throws DmaBufError `ENOMEM`, `EMFILE`, `ERR_DMABUF_MEMORY_GUARD` (more than is available)
   */
  async allocate(
    size: number,
    options?: BufferOptions & { signal?: AbortSignal | undefined },
  ): Promise<DmaBuf> {
    DmaHeap.#of(this).#file.checkOpen();
    const { signal: given, ...wanted } = readOptions(options, cancellableOptions);
    const request = checkRequest(size, wanted);
    const signal = checkSignal(given);
    throwIfAborted(signal);
    const site = callSite(DmaHeap.prototype.allocate);
    if (allocateTracing.hasSubscribers) {
      const trace = this.#traceOf('allocate', request);
      return await traceAsync(allocateTracing, trace, () => allocateOn(this, request, signal, site));
    }
    return await allocateOn(this, request, signal, site);
  }

  /**
   * Allocates zeroed memory (DMA_HEAP_IOCTL_ALLOC). **Blocks** the thread: the kernel clears every page, which takes
   * longer for larger buffers.
   *
   * @param size Bytes; rounded up to pages.
   * @throws DmaBufError `ENOMEM`, `EMFILE`, `ERR_DMABUF_MEMORY_GUARD` (more than is available)
   */
  allocateSync(size: number, options?: BufferOptions): DmaBuf {
    DmaHeap.#of(this).#file.checkOpen();
    const request = checkRequest(size, readOptions(options, bufferOptions));
    if (isTracedSync(allocateTracing)) {
      const trace = this.#traceOf('allocateSync', request);
      return traceAllocationSync(trace, () => allocateOnSync(this, request));
    }
    return allocateOnSync(this, request);
  }

  #traceOf(operation: AllocateTrace['operation'], { size, name }: BufferRequest): AllocateTrace {
    return { operation, size, name, sources: [this.#name] };
  }

  /** Closes the heap; buffers and pending allocations are not affected. A second call does nothing. */
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
