import type { Readable, Writable } from 'node:stream';
import { type Access, checkFd, checkName, directionOf, invalidType, isObject } from '../check.js';
import { type AllocationAttempt, aboutDescriptor, callSite } from '../errors.js';
import type { SyncFile } from '../fence/sync-file.js';
import { native, type Slot } from '../native.js';
import { brand, own } from '../open-file.js';
import { showDetails } from '../present.js';
import { checkWaitOptions, type WaitOptions } from '../wait.js';
import { readBytes, readText, type TextOptions, writeBytes } from './copies.js';
import { begin, beginSync, type CpuAccess, useAndEnd, withAccess } from './cpu-access.js';
import type { DmaBufInfo } from './fdinfo.js';
import { exportFences, importFences } from './fences.js';
import { createFromMemfd, type MemfdRange } from './from-memfd.js';
import { importFromProcess } from './import-from.js';
import { type DmaBufMapping, type MapOptions, mapRange } from './mapping.js';
import type { Memfd } from './memfd.js';
import { OpenBuffer } from './open-buffer.js';
import { type BufferStreamOptions, readStreamOf, writeStreamOf } from './streams.js';

/** Whether a value is a DmaBuf of this copy of the package. Unlike instanceof, this cannot be deceived by a proxy. */
export let isDmaBuf: (value: unknown) => value is DmaBuf;

/** What a DmaBuf owns; throws if it is closed. */
export let bufferOf: (buffer: DmaBuf) => OpenBuffer;

/** Makes the DmaBuf of a slot that the addon has just yielded, at position `place` in a message. */
export let createDmaBuf: (slot: Slot, source?: string, place?: number) => DmaBuf;

/**
 * A dma-buf: memory behind a file descriptor, which devices and processes share (the kernel's document driver-api/dma-buf).
 * {@link allocate}, {@link DmaHeap}, {@link DmaBuf.fromMemfd}, {@link DmaBuf.import} and a {@link DmaBufChannel} make one.
 *
 * The object owns its descriptor until `close()`, `release()` or the end of a `using` block. Methods throw
 * `ERR_DMABUF_CLOSED` after that, and `ERR_DMABUF_STALE_FD` when other code closed the descriptor and its number now
 * refers to another file.
 */
export class DmaBuf implements Disposable {
  static {
    showDetails(DmaBuf.prototype, 'DmaBuf');
    isDmaBuf = (value): value is DmaBuf => isObject(value) && #buffer in value;
    bufferOf = (buffer) => DmaBuf.#of(buffer).checkOpen();
    createDmaBuf = (slot, source, place) => new DmaBuf(new OpenBuffer(slot, source, place));
  }

  readonly #buffer: OpenBuffer;

  private constructor(buffer: OpenBuffer) {
    const instead = 'allocate(), DmaHeap.allocate(), DmaBuf.import() or DmaBuf.adopt()';
    this.#buffer = own(this, buffer, 'DmaBuf', instead);
  }

  /**
   * Duplicates a dma-buf's descriptor; the given one stays yours.
   *
   * @throws DmaBufError `ERR_DMABUF_NOT_DMABUF`, `EBADF` (not open), `EMFILE`
   */
  static import(fd: number): DmaBuf {
    return createDmaBuf(aboutDescriptor(checkFd(fd), () => native.importFd(fd, false)));
  }

  /**
   * Takes over a dma-buf's descriptor, and marks it close-on-exec. When this throws, the descriptor is still yours.
   *
   * @throws DmaBufError `ERR_DMABUF_NOT_DMABUF`, `EBADF` (not open)
   */
  static adopt(fd: number): DmaBuf {
    return createDmaBuf(aboutDescriptor(checkFd(fd), () => native.importFd(fd, true)));
  }

  /** Bytes of a memory page (sysconf(3)), of which offsets of mappings and memfd ranges must be multiples. */
  static get pageSize(): number {
    return native.pageSize;
  }

  /**
   * Copies a dma-buf out of another process (pidfd_getfd(2), Linux 5.6), which the caller must be allowed to trace
   * (ptrace(2)): a process of the same user if the ptrace scope allows it, or any process with CAP_SYS_PTRACE. That
   * process is not disturbed, and keeps its own descriptor.
   *
   * @param pid The process, as numbered in this PID namespace.
   * @param fd Its descriptor's number there.
   * @throws DmaBufError `ERR_DMABUF_NOT_DMABUF`, `ESRCH` (no such process), `EBADF` (it has no such descriptor), `EPERM` with
   *   the right that is missing, `EMFILE`, `ERR_DMABUF_UNSUPPORTED_KERNEL` before Linux 5.6
   */
  static importFrom(pid: number, fd: number): DmaBuf {
    return createDmaBuf(importFromProcess(pid, fd));
  }

  /**
   * Whether an open descriptor is that of a usable dma-buf. This has no side effect, and sends no request to a file
   * system, which may belong to the sender of the descriptor and never answer (statx(2), fstatfs(2), Linux 5.3).
   *
   * @throws DmaBufError `EBADF` when the descriptor is not open
   */
  static isDmaBuf(fd: number): boolean {
    return aboutDescriptor(checkFd(fd), () => native.isDmaBuf(fd));
  }

  /**
   * Makes a dma-buf of a memfd's pages (udmabuf, Linux 4.20): bytes that are written through one are read through the
   * other. The memfd stays yours, and may be closed. **Blocks** the thread while the kernel pins the pages, and while
   * another process changes the memfd's size or pages.
   *
   * @param memfd A {@link Memfd}, or the descriptor of a memfd that is sealed with F_SEAL_SHRINK and not with F_SEAL_WRITE.
   * @param pieces One range or several, of this memfd or of others. Default: the whole memfd.
   * @throws DmaBufError `EINVAL` with the reason (seals, limits of the module), `ENOENT` without `/dev/udmabuf`,
   * `EACCES` with the rule that fixes it, `ERR_DMABUF_MEMORY_GUARD` (needs more pages than are available)
   * @throws RangeError `ERR_OUT_OF_RANGE` for a range that leaves its memfd or does not consist of pages
   */
  static fromMemfd(memfd: number | Memfd, pieces?: MemfdRange | readonly MemfdRange[]): DmaBuf {
    return createDmaBuf(createFromMemfd(memfd, pieces), 'udmabuf');
  }

  static readonly #of = brand('DmaBuf', (self) => (#buffer in self ? self.#buffer : undefined));

  /** The file descriptor, lent: do not close it. -1 once closed. */
  get fd(): number {
    return DmaBuf.#of(this).fd;
  }

  /**
   * The size in bytes: the requested size in whole pages; for an imported buffer, its exporter's. Never changes.
   *
   * @throws DmaBufError `ERR_DMABUF_CLOSED` when it is first asked for after `close()`
   */
  get size(): number {
    return DmaBuf.#of(this).size;
  }

  /**
   * Identifies the buffer on the whole machine: buffers with equal inodes are the same memory.
   *
   * @throws DmaBufError `ERR_DMABUF_CLOSED` when it is first asked for after `close()`
   */
  get inode(): number {
    return DmaBuf.#of(this).inode;
  }

  /** Whether the object has given up its descriptor. */
  get closed(): boolean {
    return DmaBuf.#of(this).closed;
  }

  /**
   * Whether the buffer's memory is gone: its exporter answered an access through this object with SIGBUS, for example
   * after its device was removed. From then on mapped bytes read as zeros, and calls that use the bytes throw
   * `ERR_DMABUF_LOST`. `dup()` returns an object that tries the memory again.
   */
  get lost(): boolean {
    return DmaBuf.#of(this).lost;
  }

  /**
   * Which source served the allocation: a heap's name or `'udmabuf'`. `undefined` for a buffer that was imported or
   * received; `info().exporter` says more.
   */
  get source(): string | undefined {
    return DmaBuf.#of(this).source;
  }

  /**
   * The sources that refused before one served {@link allocate}, in order, each with its error. Empty when the first
   * one served, and for a buffer that was made in another way.
   */
  get attempts(): readonly AllocationAttempt[] {
    return DmaBuf.#of(this).attempts;
  }

  /**
   * Exporter, name, references and flags, read from `/proc/self/fdinfo` now (Linux 5.3).
   *
   * @throws DmaBufError `ERR_DMABUF_UNSUPPORTED_KERNEL` before Linux 5.3
   */
  info(): DmaBufInfo {
    return DmaBuf.#of(this).checkOpen().info();
  }

  /**
   * Names the buffer for debugging tools; replaces an earlier name (DMA_BUF_SET_NAME, Linux 5.3).
   *
   * @param name At most 31 bytes of UTF-8, without NUL; `''` is a name as well.
   */
  setName(name: string): void {
    const buffer = DmaBuf.#of(this).checkOpen();
    native.setName(buffer.slot, checkName(name));
  }

  /**
   * Maps a range (mmap(2), shared). Use the bytes only during CPU access, which also gives you the whole buffer without
   * a mapping of your own.
   *
   * @throws DmaBufError `EACCES` for a descriptor that is not readable and writable (unless `faultOnWrite`),
   *   `ENOMEM` with the limit that was reached, `ERR_DMABUF_LOST`, `ERR_DMABUF_NO_EXTERNAL_BUFFERS` where the runtime
   *   forbids such memory (Electron)
   * @throws RangeError `ERR_OUT_OF_RANGE` for a range that leaves the buffer or does not start at a page
   */
  map(options?: MapOptions): DmaBufMapping {
    return mapRange(DmaBuf.#of(this).checkOpen(), options);
  }

  /**
   * Starts CPU access to the whole buffer (DMA_BUF_IOCTL_SYNC START, Linux 4.6). **Blocks** the thread until the fences
   * that matter for this access have signalled.
   *
   * @throws DmaBufError `EACCES` for a descriptor that is not readable and writable: use `read()`; or what `map()` throws
   */
  cpuAccessSync(access: Access): CpuAccess {
    return beginSync(DmaBuf.#of(this).checkOpen(), access);
  }

  /**
   * Calls `fn` with the buffer's bytes under CPU access, which ends even if `fn` throws. **Blocks** like
   * `cpuAccessSync()`.
   *
   * @returns What `fn` returned.
   * @throws DmaBufError the errors of `cpuAccessSync()`; or the error of `fn`
   * @throws TypeError `ERR_INVALID_RETURN_VALUE` when `fn` returns a promise: the access ended before it settled
   *
   * @example
   * buffer.withCpuAccessSync('write', (bytes) => bytes.fill(0));
   */
  withCpuAccessSync<T>(access: Access, fn: (bytes: Uint8Array) => T): T {
    return withAccess(DmaBuf.#of(this).checkOpen(), access, fn);
  }

  /**
   * Starts CPU access to the whole buffer once its devices' fences have signalled, without blocking the event loop.
   *
   * @throws DmaBufError `EACCES` for a descriptor that is not readable and writable, `ETIMEDOUT`,
   * `ERR_DMABUF_CLOSED` when the buffer is closed meanwhile; or the signal's reason. For a buffer that other processes
   * may hold, also `EMFILE`, or `EAGAIN` when no thread could be created
   */
  async cpuAccess(access: Access, options?: WaitOptions): Promise<CpuAccess> {
    return await begin(DmaBuf.#of(this).checkOpen(), access, options, DmaBuf.prototype.cpuAccess);
  }

  /**
   * Calls `fn` with the buffer's bytes under CPU access, which ends when the promise that `fn` returns resolves or
   * rejects. Waits like `cpuAccess()`.
   *
   * @returns What `fn` returned, or its promise resolved with.
   * @throws DmaBufError the errors of `cpuAccess()`; or the error of `fn`
   *
   * @example
   * const first = await buffer.withCpuAccess('read', (bytes) => bytes[0], { timeout: 1000 });
   */
  async withCpuAccess<T>(
    access: Access,
    fn: (bytes: Uint8Array) => T | Promise<T>,
    options?: WaitOptions,
  ): Promise<T> {
    DmaBuf.#of(this).checkOpen();
    directionOf(access);
    if (typeof fn !== 'function') throw invalidType('fn', 'a function', fn);
    return await useAndEnd(await this.cpuAccess(access, options), fn);
  }

  /**
   * Whether the fences that matter for an access have signalled: the writers' for `'read'`, all for `'write'`
   * and `'read-write'`. Never waits (poll(2), Linux 3.17).
   */
  isReady(access: Access): boolean {
    return native.isReady(DmaBuf.#of(this).checkOpen().slot, directionOf(access));
  }

  /**
   * Waits, through the event loop, until the fences that matter for an access have signalled. A pending wait keeps
   * the process alive; end it with `signal` or `close()`. Settles at once on an idle buffer.
   *
   * @throws DmaBufError `ETIMEDOUT`, `ERR_DMABUF_CLOSED` when the buffer is closed meanwhile; or the signal's reason
   */
  async ready(access: Access, options?: WaitOptions): Promise<void> {
    const buffer = DmaBuf.#of(this).checkOpen();
    const direction = directionOf(access);
    const limits = checkWaitOptions(options);
    await buffer.ready(direction, limits, () => callSite(DmaBuf.prototype.ready));
  }

  /**
   * The fences that an access would have to wait for now, as a sync_file; it does not include fences that are added
   * later. Without fences, the sync_file has one that has signalled (DMA_BUF_IOCTL_EXPORT_SYNC_FILE, Linux 6.0).
   *
   * @throws DmaBufError `ERR_DMABUF_UNSUPPORTED_KERNEL` before Linux 6.0
   */
  exportSyncFile(access: Access): SyncFile {
    return exportFences(DmaBuf.#of(this).checkOpen(), access);
  }

  /**
   * Adds a sync_file's fences to the buffer, as those of a device that reads (`'read'`) or writes it (`'write'`,
   * `'read-write'`): users of the buffer then wait for them, too (DMA_BUF_IOCTL_IMPORT_SYNC_FILE, Linux 6.0).
   *
   * @throws DmaBufError `ERR_DMABUF_UNSUPPORTED_KERNEL` before Linux 6.0
   */
  importSyncFile(file: SyncFile, access: Access): void {
    importFences(DmaBuf.#of(this).checkOpen(), file, access);
  }

  /**
   * Copies bytes out of the buffer, under CPU access, also through read-only descriptors. Never waits: see `ready()`.
   *
   * @param target Filled from its start. It must not be memory of this buffer that overlaps the range that is read: the
   *   order in which bytes are copied is undefined.
   * @param position Where to start in the buffer, in bytes.
   * @returns How many bytes were copied: fewer than `target` holds at the end of the buffer, 0 beyond it.
   * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE` for a DataView that has lost its memory
   * @throws DmaBufError `EAGAIN` while the fences of devices that write the buffer have not signalled, `EACCES` for a
   *   descriptor that may only be written, `ERR_DMABUF_LOST` when the exporter no longer has the memory; the content of
   *   `target` is then undefined. For a buffer that other processes may hold, also `EMFILE`, or `EAGAIN` of
   *   `pthread_create`
   */
  read(target: ArrayBufferView, position = 0): number {
    return readBytes(DmaBuf.#of(this).checkOpen(), target, position);
  }

  /**
   * Reads text: copies the bytes as {@link DmaBuf.read} does, then decodes the copy. Bytes that another process may
   * change must never be decoded where they are mapped (`Buffer.toString()`, `TextDecoder`): the engine reads them
   * twice, and crashed in tests when they changed in between.
   *
   * @throws DmaBufError what {@link DmaBuf.read} throws
   * @throws RangeError `ERR_OUT_OF_RANGE` for another encoding; `ERR_STRING_TOO_LONG`
   *
   * @example
   * const header = JSON.parse(buffer.text({ length: 200 }));
   */
  text(options?: TextOptions): string {
    return readText(DmaBuf.#of(this).checkOpen(), options);
  }

  /**
   * Copies bytes into the buffer, under CPU access. Never waits for a device: see `ready()`.
   *
   * @param source It must not be memory of this buffer that overlaps the range that is written: the order in which bytes
   *   are copied is undefined.
   * @param position Where to start in the buffer, in bytes.
   * @returns How many bytes were copied: all of `source`.
   * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE` for a DataView that has lost its memory
   * @throws RangeError `ERR_OUT_OF_RANGE` when the bytes do not all fit; nothing is copied then
   * @throws DmaBufError `EACCES` for a descriptor that is not readable and writable, `EAGAIN` while the fences of devices
   *   that use the buffer have not signalled, `ERR_DMABUF_LOST` when the exporter no longer has the memory. For a buffer
   *   that other processes may hold, also `EMFILE`, or `EAGAIN` of `pthread_create`
   */
  write(source: ArrayBufferView, position = 0): number {
    return writeBytes(DmaBuf.#of(this).checkOpen(), source, position);
  }

  /**
   * A stream of the buffer's bytes: copies, as `read()` makes them, each once no device writes the buffer. It has a descriptor
   * of its own, so it goes on when this object is closed. It fails with what `read()` throws, such as `ERR_DMABUF_LOST`.
   */
  createReadStream(options?: BufferStreamOptions): Readable {
    return readStreamOf(DmaBuf.#of(this).checkOpen(), options, createDmaBuf);
  }

  /**
   * A stream into the buffer, as `createReadStream()` is one out of it. It fails with what `write()` throws, and with
   * `ERR_OUT_OF_RANGE` where it gets more bytes than it may write.
   */
  createWriteStream(options?: BufferStreamOptions): Writable {
    return writeStreamOf(DmaBuf.#of(this).checkOpen(), options, createDmaBuf);
  }

  /** The same buffer behind a new descriptor, with the same access, to be closed on its own. */
  dup(): DmaBuf {
    const buffer = DmaBuf.#of(this).checkOpen();
    return createDmaBuf(native.duplicate(buffer.slot), buffer.source);
  }

  /**
   * Gives the descriptor to the caller, who has to close it. The object is closed afterwards, with its mappings and CPU
   * accesses, and its pending waits are rejected.
   *
   * @throws DmaBufError `ENOMEM` as `close()` does
   */
  release(): number {
    return DmaBuf.#of(this).checkOpen().release();
  }

  /**
   * Ends CPU accesses, unmaps everything that this object mapped, rejects pending waits, and closes the descriptor. The
   * memory is freed when its last holder closes it. A second call does nothing.
   *
   * @throws DmaBufError `ENOMEM` when the process has reached its limit of mappings, and the kernel cannot
   *   replace one by zeros; the buffer then stays open, and you can try again
   */
  close(): void {
    DmaBuf.#of(this).close();
  }

  /** A description for logs and JSON: size, name, exporter and source, as far as they are still known. */
  toJSON(): object {
    return DmaBuf.#of(this).show();
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    DmaBuf.#of(this).close();
  }
}
