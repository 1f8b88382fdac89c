import { throwIfAborted } from '../abort.js';
import type { DmaBuf } from '../buffer/dma-buf.js';
import { checkSignal, readOptions } from '../check.js';
import { type CallSite, callSite } from '../errors.js';
import { brand, OpenFile, own } from '../open-file.js';
import { showDetails } from '../present.js';
import { isTracedSync, traceAsync } from '../tracing.js';
import { type AllocateTrace, allocateTracing, traceAllocationSync } from './allocation.js';
import { allocateOnDevice, allocateOnDeviceSync, type HeapDevice, openHeapDevice } from './heap-device.js';
import { type HeapInfo, listHeaps, resolveHeap } from './heap-list.js';
import { type BufferOptions, type BufferRequest, bufferOptions, checkRequest } from './request.js';

const cancellableOptions: readonly string[] = [...bufferOptions, 'signal'];

/** Allocates what has been asked for and checked, unless the heap is closed; `site` is the user's call. */
export let allocateOn: (
  heap: DmaHeap,
  request: BufferRequest,
  signal: AbortSignal | undefined,
  site: CallSite,
) => Promise<DmaBuf>;

/** The same now. */
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
      DmaHeap.#of(heap).#file.checkOpen();
      return await allocateOnDevice(heap.#device, request, signal, site);
    };
    allocateOnSync = (heap, request) => {
      DmaHeap.#of(heap).#file.checkOpen();
      return allocateOnDeviceSync(heap.#device, request);
    };
  }

  readonly #file: OpenFile;
  readonly #device: HeapDevice;

  private constructor(file: OpenFile, device: HeapDevice) {
    this.#file = own(this, file, 'DmaHeap', 'DmaHeap.open()');
    this.#device = device;
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
    const device = openHeapDevice(resolveHeap(heap));
    return new DmaHeap(new OpenFile(device.slot, 'DmaHeap'), device);
  }

  static readonly #of = brand('DmaHeap', (self) => (#file in self ? self : undefined));

  /** The device's name, with symbolic links resolved. */
  get name(): string {
    return DmaHeap.#of(this).#device.name;
  }

  /** The device's path, with symbolic links resolved. */
  get path(): string {
    return DmaHeap.#of(this).#device.path;
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
   * Allocates zeroed memory now (DMA_HEAP_IOCTL_ALLOC). **Blocks** the thread: the kernel clears every page, which takes
   * the longer the larger the buffer is.
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
    return { operation, size, name, sources: [this.#device.name] };
  }

  /** Closes the heap; buffers and pending allocations are not affected. Does nothing the second time. */
  close(): void {
    DmaHeap.#of(this).#file.close();
  }

  /** What the heap is, for logs and as JSON. */
  toJSON(): object {
    const heap = DmaHeap.#of(this);
    return { type: 'DmaHeap', name: heap.#device.name, path: heap.#device.path, ...heap.#file.show() };
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    DmaHeap.#of(this).#file.close();
  }
}
