import {
  type Access,
  checkFd,
  checkFlag,
  checkInteger,
  checkName,
  checkView,
  directionOf,
  invalidType,
  isObject,
  outOfRange,
  readOptions,
} from '../check.js';
import { type AllocationAttempt, aboutDescriptor, callSite, unsupportedKernel } from '../errors.js';
import { createSyncFile, handleOfSyncFile, isSyncFile, type SyncFile } from '../fence/sync-file.js';
import { assign, freeze, max, min } from '../intrinsics.js';
import { type NativeHandle, native } from '../native.js';
import { brand, own } from '../open-file.js';
import { showDetails } from '../present.js';
import { checkWaitOptions, type WaitOptions } from '../wait.js';
import { type CpuAccess, createCpuAccess } from './cpu-access.js';
import { type DmaBufInfo, toInfo } from './fdinfo.js';
import { createFromMemfd, type MemfdRange } from './from-memfd.js';
import { importFromProcess } from './import-from.js';
import { createMapping, type DmaBufMapping } from './mapping.js';
import { OpenBuffer } from './open-buffer.js';

/** What {@link DmaBuf.map} maps, and for what. */
export interface MapOptions {
  /**
   * What the memory will be used for; default `'read-write'`. The pages of a writable descriptor are writable
   * whatever this says, since a write to a read-only page kills the process.
   */
  access?: Access | undefined;
  /** Where to start, in bytes: a multiple of the page size. Default 0. */
  offset?: number | undefined;
  /** Bytes, at least 1. Default: up to the end of the buffer. */
  length?: number | undefined;
  /**
   * With access `'read'`: map the pages read-only, so that a write ends the process with SIGSEGV. The one way
   * to map a read-only descriptor, for those who want the fault. Default false.
   */
  faultOnWrite?: boolean | undefined;
}

const mapOptions: readonly string[] = ['access', 'offset', 'length', 'faultOnWrite'];

/** What {@link DmaBuf.text} decodes, and how. */
export interface TextOptions {
  /** Where to start in the buffer, in bytes. Default 0. */
  position?: number | undefined;
  /** Bytes; fewer are decoded at the end of the buffer. Default: up to the end of the buffer. */
  length?: number | undefined;
  /** Default `'utf8'`; what is not UTF-8 becomes U+FFFD. */
  encoding?: 'utf8' | 'latin1' | undefined;
}

const textOptions = ['position', 'length', 'encoding'] as const;

/** The addon's handle of an open DmaBuf. */
export let handleOfDmaBuf: (buffer: DmaBuf) => NativeHandle;

/** Whether a value is a DmaBuf of this copy's: asks no proxy, unlike instanceof. */
export let isDmaBuf: (value: unknown) => value is DmaBuf;

/** Clears a buffer that no device uses; false where one does. Never waits. */
export let tryToClear: (buffer: DmaBuf) => boolean;

/** Says which sources were passed over before one served. */
export let setAttempts: (buffer: DmaBuf, attempts: readonly AllocationAttempt[]) => void;

/** What is waited for, for messages. */
const untilReady = "waiting for the buffer's fences";

const noAttempts: readonly AllocationAttempt[] = freeze([]);

/**
 * A dma-buf: memory behind a file descriptor, which devices and processes share (the kernel's document
 * driver-api/dma-buf). {@link allocate}, {@link DmaHeap}, {@link DmaBuf.fromMemfd}, {@link DmaBuf.import} and a
 * {@link DmaBufChannel} make one.
 *
 * The object owns its descriptor until `close()`, `release()` or the end of a `using` block. Methods throw
 * `ERR_DMABUF_CLOSED` after that, and `ERR_DMABUF_STALE_FD` when somebody else closed the descriptor and its
 * number now stands for another file.
 */
export class DmaBuf implements Disposable {
  static {
    showDetails(DmaBuf.prototype, 'DmaBuf');
  }

  readonly #buffer: OpenBuffer;
  readonly #source: string | undefined;
  #attempts = noAttempts;

  static {
    isDmaBuf = (value): value is DmaBuf => isObject(value) && #buffer in value;
    handleOfDmaBuf = (buffer) => DmaBuf.#of(buffer).checkOpen().handle;
    tryToClear = (buffer) => {
      const open = DmaBuf.#of(buffer).checkOpen();
      const bytes = open.tryBegin(2);
      if (bytes === undefined) return false;
      try {
        bytes.fill(0);
      } finally {
        open.end(2);
      }
      return true;
    };
    setAttempts = (buffer, attempts) => {
      buffer.#attempts = freeze(attempts);
    };
  }

  private constructor(buffer: OpenBuffer, source: string | undefined) {
    const instead = 'allocate(), DmaHeap.allocate(), DmaBuf.import() or DmaBuf.adopt()';
    this.#buffer = own(this, buffer, 'DmaBuf', instead);
    this.#source = source;
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
   * Takes a dma-buf's descriptor over, and marks it close-on-exec. When this throws, the descriptor is still
   * yours.
   *
   * @throws DmaBufError `ERR_DMABUF_NOT_DMABUF`, `EBADF` (not open)
   */
  static adopt(fd: number): DmaBuf {
    return createDmaBuf(aboutDescriptor(checkFd(fd), () => native.importFd(fd, true)));
  }

  /** Bytes of a page of memory: what offsets of mappings and of ranges of memfds are multiples of (sysconf(3)). */
  static get pageSize(): number {
    return native.pageSize;
  }

  /**
   * Copies a dma-buf out of another process (pidfd_getfd(2), Linux 5.6), which the caller must be allowed to trace
   * (ptrace(2)): a process of the same user where the ptrace scope allows it, any with CAP_SYS_PTRACE. That process does
   * not notice, and keeps its own.
   *
   * @param pid The process, as numbered in this PID namespace.
   * @param fd Its descriptor's number there.
   * @throws DmaBufError `ERR_DMABUF_NOT_DMABUF`, `ESRCH` (no such process), `EBADF` (it has no such descriptor), `EPERM` with
   *   the right that is missing, `EMFILE`, `ERR_DMABUF_UNSUPPORTED_KERNEL` before Linux 5.6
   */
  static importFrom(pid: number, fd: number): DmaBuf {
    checkInteger(pid, 'pid', 1, 2 ** 31 - 1);
    checkFd(fd);
    return createDmaBuf(importFromProcess(pid, fd));
  }

  /**
   * Whether an open descriptor is a dma-buf's that can be used. Has no side effect, and asks no file system, which may belong
   * to whoever sent the descriptor and never answer (statx(2), fstatfs(2), Linux 5.3).
   *
   * @throws DmaBufError `EBADF` when the descriptor is not open
   */
  static isDmaBuf(fd: number): boolean {
    return aboutDescriptor(checkFd(fd), () => native.isDmaBuf(fd));
  }

  /**
   * Makes a dma-buf of a memfd's pages (udmabuf, Linux 4.20): what is written through one is read through the
   * other. The memfd stays yours, and may be closed. **Blocks** the thread while the kernel pins the pages, and while another
   * process changes the memfd's size or pages.
   *
   * @param memfd Sealed with F_SEAL_SHRINK and not with F_SEAL_WRITE; see {@link createMemfd}.
   * @param pieces One range or several, of this memfd or of others. Default: the whole memfd.
   * @throws DmaBufError `EINVAL` with the reason (seals, limits of the module), `ENOENT` without `/dev/udmabuf`,
   *   `EACCES` with the rule that cures it, `ERR_DMABUF_MEMORY_GUARD` (more pages are still to be found than are available)
   * @throws RangeError `ERR_OUT_OF_RANGE` for a range that leaves its memfd or does not consist of pages
   */
  static fromMemfd(memfd: number, pieces?: MemfdRange | readonly MemfdRange[]): DmaBuf {
    return createDmaBuf(createFromMemfd(memfd, pieces), 'udmabuf');
  }

  static readonly #of = brand('DmaBuf', (self) => (#buffer in self ? self.#buffer : undefined));

  /** The file descriptor, lent: do not close it. -1 once closed. */
  get fd(): number {
    return DmaBuf.#of(this).fd;
  }

  /**
   * Bytes: what was asked for, rounded up to pages; of an imported buffer what its exporter made. Fixed for the buffer's
   * life.
   *
   * @throws DmaBufError `ERR_DMABUF_CLOSED` when it is first asked for after `close()`
   */
  get size(): number {
    return DmaBuf.#of(this).size;
  }

  /**
   * Identifies the buffer on the whole system: equal inodes are the same memory.
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
   * Whether the buffer's memory is gone: its exporter answered an access through this object with SIGBUS, as drivers do
   * whose device was removed. Mapped bytes read zeros from then on, and what would use the bytes throws `ERR_DMABUF_LOST`.
   * It stays so; `dup()` gives an object that tries anew.
   */
  get lost(): boolean {
    return DmaBuf.#of(this).lost;
  }

  /**
   * Which source served the allocation: a heap's name or `'udmabuf'`. `undefined` for a buffer that was imported or
   * received; `info().exporter` says more.
   */
  get source(): string | undefined {
    DmaBuf.#of(this);
    return this.#source;
  }

  /**
   * The sources that {@link allocate} passed over before one served, in order, each with its refusal. Empty when the first
   * one served, and for a buffer that was made in another way.
   */
  get attempts(): readonly AllocationAttempt[] {
    DmaBuf.#of(this);
    return this.#attempts;
  }

  /**
   * Exporter, name, references and flags, read from `/proc/self/fdinfo` now (Linux 5.3).
   *
   * @throws DmaBufError `ERR_DMABUF_UNSUPPORTED_KERNEL` before Linux 5.3
   */
  info(): DmaBufInfo {
    const buffer = DmaBuf.#of(this).checkOpen();
    const info = toInfo(native.info(buffer.handle));
    if (info.inode === 0) info.inode = buffer.inode;
    return info;
  }

  /**
   * Names the buffer for debugging tools; replaces an earlier name (DMA_BUF_SET_NAME, Linux 5.3).
   *
   * @param name At most 31 bytes of UTF-8, without NUL; `''` is a name as well.
   */
  setName(name: string): void {
    const buffer = DmaBuf.#of(this).checkOpen();
    native.setName(buffer.handle, checkName(name));
  }

  /**
   * Maps a range (mmap(2), shared). Bracket what you do with the bytes by `cpuAccessSync()` or `withCpuAccessSync()`,
   * which also offer the whole buffer without a mapping of your own.
   *
   * @throws DmaBufError `EACCES` for a descriptor that is not readable and writable (unless `faultOnWrite`),
   *   `ENOMEM` with the limit that was reached, `ERR_DMABUF_LOST`, `ERR_DMABUF_NO_EXTERNAL_BUFFERS` where the runtime
   *   forbids such memory (Electron)
   * @throws RangeError `ERR_OUT_OF_RANGE` for a range that leaves the buffer or does not start at a page
   */
  map(options?: MapOptions): DmaBufMapping {
    const buffer = DmaBuf.#of(this).checkOpen();
    const { access = 'read-write', offset = 0, faultOnWrite, ...rest } = readOptions(options, mapOptions);
    const direction = directionOf(access);
    const readOnly = checkFlag(faultOnWrite, 'faultOnWrite');
    if (readOnly && direction !== 1) throw outOfRange('access', "'read' with faultOnWrite", access);
    checkInteger(offset, 'offset', 0, buffer.size - 1);
    if (offset % native.pageSize !== 0) {
      throw outOfRange('offset', `a multiple of the page size, ${native.pageSize}`, offset);
    }
    const { length = buffer.size - offset } = rest;
    checkInteger(length, 'length', 1, buffer.size - offset);
    return createMapping(buffer, !readOnly, offset, length);
  }

  /**
   * Begins CPU access to the whole buffer (DMA_BUF_IOCTL_SYNC START, Linux 4.6). **Blocks** the thread until the fences
   * that matter for this access have signalled.
   *
   * @throws DmaBufError `EACCES` for a descriptor that is not readable and writable: use `read()`; or what `map()` throws
   */
  cpuAccessSync(access: Access): CpuAccess {
    const buffer = DmaBuf.#of(this).checkOpen();
    const direction = directionOf(access);
    return createCpuAccess(buffer, buffer.begin(direction), access, direction);
  }

  /**
   * Calls `fn` with the buffer's bytes under CPU access, which ends whatever `fn` does. **Blocks** like
   * `cpuAccessSync()`.
   *
   * @returns What `fn` returned.
   * @throws DmaBufError what `cpuAccessSync()` throws; or whatever `fn` throws
   * @throws TypeError `ERR_INVALID_RETURN_VALUE` when `fn` returns a promise: the access ended before it settled
   *
   * @example
   * buffer.withCpuAccessSync('write', (bytes) => bytes.fill(0));
   */
  withCpuAccessSync<T>(access: Access, fn: (bytes: Uint8Array) => T): T {
    const buffer = DmaBuf.#of(this).checkOpen();
    const direction = directionOf(access);
    if (typeof fn !== 'function') throw invalidType('fn', 'a function', fn);
    const cpuAccess = createCpuAccess(buffer, buffer.begin(direction), access, direction);
    let result: T;
    try {
      result = fn(cpuAccess.bytes);
    } catch (error) {
      endQuietly(cpuAccess);
      throw error;
    }
    cpuAccess.end();
    if (isThenable(result)) {
      result.then(undefined, () => {});
      throw assign(
        new TypeError(
          'withCpuAccessSync() needs a function that is done when it returns; this one returned a promise',
        ),
        { code: 'ERR_INVALID_RETURN_VALUE' },
      );
    }
    return result;
  }

  /**
   * Begins CPU access to the whole buffer once the fences of devices that use it have signalled, without blocking
   * the event loop, whatever fences others add meanwhile.
   *
   * @throws DmaBufError `EACCES` for a descriptor that is not readable and writable, `ETIMEDOUT`,
   *   `ERR_DMABUF_CLOSED` when the buffer is closed meanwhile; or the signal's reason. Of a buffer that others may hold:
   *   `EMFILE`, `EAGAIN` when no thread could be made
   */
  async cpuAccess(access: Access, options?: WaitOptions): Promise<CpuAccess> {
    const buffer = DmaBuf.#of(this).checkOpen();
    const direction = directionOf(access);
    const { signal, timeout } = checkWaitOptions(options);
    // First, for what cannot be mapped need not be waited for.
    let bytes = buffer.tryBegin(direction);
    if (bytes === undefined) {
      const site = callSite(DmaBuf.prototype.cpuAccess);
      const start = performance.now();
      let left = timeout;
      do {
        await buffer.wait(direction, { signal, timeout: left }, site, untilReady);
        buffer.checkOpen();
        if (timeout !== undefined) left = max(0, timeout - (performance.now() - start));
        bytes = buffer.tryBegin(direction);
      } while (bytes === undefined);
    }
    return createCpuAccess(buffer, bytes, access, direction);
  }

  /**
   * Calls `fn` with the buffer's bytes under CPU access, which ends when the promise that `fn` returns settles,
   * however it does. Waits like `cpuAccess()`.
   *
   * @returns What `fn` returned, or its promise resolved with.
   * @throws DmaBufError what `cpuAccess()` rejects with; or whatever `fn` throws
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
    const cpuAccess = await this.cpuAccess(access, options);
    let result: T;
    try {
      result = await fn(cpuAccess.bytes);
    } catch (error) {
      endQuietly(cpuAccess);
      throw error;
    }
    cpuAccess.end();
    return result;
  }

  /**
   * Whether the fences that matter for an access have signalled: the writers' for `'read'`, all for `'write'`
   * and `'read-write'`. Never waits (poll(2), Linux 3.17).
   */
  isReady(access: Access): boolean {
    return native.isReady(DmaBuf.#of(this).checkOpen().handle, directionOf(access));
  }

  /**
   * Waits, through the event loop, until the fences that matter for an access have signalled. A pending wait keeps
   * the process alive; end it with `signal` or `close()`. Settles at once on an idle buffer.
   *
   * @throws DmaBufError `ETIMEDOUT`, `ERR_DMABUF_CLOSED` when the buffer is closed meanwhile; or the signal's
   *   reason
   */
  async ready(access: Access, options?: WaitOptions): Promise<void> {
    const buffer = DmaBuf.#of(this).checkOpen();
    const direction = directionOf(access);
    const limits = checkWaitOptions(options);
    if (native.isReady(buffer.handle, direction)) return;
    await buffer.wait(direction, limits, callSite(DmaBuf.prototype.ready), untilReady);
  }

  /**
   * The fences that an access would have to wait for now, as a sync_file: fences that are added later are not in
   * it. Without any, one that has signalled (DMA_BUF_IOCTL_EXPORT_SYNC_FILE, Linux 6.0).
   *
   * @throws DmaBufError `ERR_DMABUF_UNSUPPORTED_KERNEL` before Linux 6.0
   */
  exportSyncFile(access: Access): SyncFile {
    const { handle } = DmaBuf.#of(this).checkOpen();
    const direction = directionOf(access);
    return unsupportedKernel('DMA_BUF_IOCTL_EXPORT_SYNC_FILE', '6.0', () =>
      createSyncFile(native.exportSyncFile(handle, direction)),
    );
  }

  /**
   * Adds a sync_file's fences to the buffer, as those of a device that reads (`'read'`) or writes it (`'write'`,
   * `'read-write'`): who wants to use the buffer waits for them, too (DMA_BUF_IOCTL_IMPORT_SYNC_FILE, Linux 6.0).
   *
   * @throws DmaBufError `ERR_DMABUF_UNSUPPORTED_KERNEL` before Linux 6.0
   */
  importSyncFile(file: SyncFile, access: Access): void {
    const { handle } = DmaBuf.#of(this).checkOpen();
    if (!isSyncFile(file)) throw invalidType('file', 'a SyncFile', file);
    const direction = directionOf(access);
    const fences = handleOfSyncFile(file);
    unsupportedKernel('DMA_BUF_IOCTL_IMPORT_SYNC_FILE', '6.0', () =>
      native.importSyncFile(handle, fences, direction),
    );
  }

  /**
   * Copies bytes out of the buffer, under CPU access. Works on read-only descriptors too. Never waits for a device,
   * whatever fences others add meanwhile: that is `await buffer.ready('read')`.
   *
   * @param target Filled from its start. Not memory of this buffer that overlaps what is read: the order of bytes is
   *   not defined then.
   * @param position Where to start in the buffer, in bytes.
   * @returns How many bytes were copied: fewer than `target` holds at the end of the buffer, 0 beyond it.
   * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE` for a DataView that has lost its memory
   * @throws DmaBufError `EAGAIN` while the fences of devices that write the buffer have not signalled, `EACCES` for a
   *   descriptor that may only be written, `ERR_DMABUF_LOST` when the exporter no longer has the memory; what `target`
   *   holds is not defined then. Of a buffer that others may hold: `EMFILE`, `EAGAIN` of `pthread_create`
   */
  read(target: ArrayBufferView, position = 0): number {
    const buffer = DmaBuf.#of(this).checkOpen();
    const bytes = checkView(target, 'target');
    checkInteger(position, 'position', 0, Number.MAX_SAFE_INTEGER);
    const start = min(position, buffer.size);
    const length = min(bytes.length, buffer.size - start);
    native.read(buffer.handle, bytes, start, length);
    return length;
  }

  /**
   * Reads text: copies the bytes as {@link DmaBuf.read} does, then decodes the copy. Bytes that another process may change
   * must never be decoded where they are mapped (`Buffer.toString()`, `TextDecoder`): the engine reads them twice, and was
   * seen to crash when they change between.
   *
   * @throws DmaBufError what {@link DmaBuf.read} throws
   * @throws RangeError `ERR_OUT_OF_RANGE` for another encoding; `ERR_STRING_TOO_LONG`
   *
   * @example
   * const header = JSON.parse(buffer.text({ length: 200 }));
   */
  text(options?: TextOptions): string {
    const buffer = DmaBuf.#of(this).checkOpen();
    const {
      position = 0,
      length = Number.MAX_SAFE_INTEGER,
      encoding = 'utf8',
    } = readOptions(options, textOptions);
    checkInteger(position, 'position', 0, Number.MAX_SAFE_INTEGER);
    checkInteger(length, 'length', 0, Number.MAX_SAFE_INTEGER);
    if (encoding !== 'utf8' && encoding !== 'latin1') {
      throw outOfRange('encoding', "'utf8' or 'latin1'", encoding);
    }
    const start = min(position, buffer.size);
    const copy = Buffer.allocUnsafeSlow(min(length, buffer.size - start));
    native.read(buffer.handle, copy, start, copy.length);
    return copy.toString(encoding);
  }

  /**
   * Copies bytes into the buffer, under CPU access. Never waits for a device, whatever fences others add meanwhile: that
   * is `await buffer.ready('write')`.
   *
   * @param source Not memory of this buffer that overlaps what is written: the order of bytes is not defined then.
   * @param position Where to start in the buffer, in bytes.
   * @returns How many bytes were copied: all of `source`.
   * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE` for a DataView that has lost its memory
   * @throws RangeError `ERR_OUT_OF_RANGE` when they would not all fit; nothing is copied then
   * @throws DmaBufError `EACCES` for a descriptor that is not readable and writable, `EAGAIN` while the fences of
   *   devices that use the buffer have not signalled, `ERR_DMABUF_LOST` when the exporter no longer has the memory. Of a
   *   buffer that others may hold: `EMFILE`, `EAGAIN` of `pthread_create`
   */
  write(source: ArrayBufferView, position = 0): number {
    const buffer = DmaBuf.#of(this).checkOpen();
    const bytes = checkView(source, 'source');
    checkInteger(position, 'position', 0, Number.MAX_SAFE_INTEGER);
    if (position + bytes.length > buffer.size) {
      throw outOfRange(
        'position',
        `such that ${bytes.length} bytes fit into the buffer's ${buffer.size}`,
        position,
      );
    }
    native.write(buffer.handle, bytes, position);
    return bytes.length;
  }

  /** The same buffer behind a new descriptor, with the same access, to be closed on its own. */
  dup(): DmaBuf {
    const buffer = DmaBuf.#of(this).checkOpen();
    return createDmaBuf(native.duplicate(buffer.handle), this.#source);
  }

  /**
   * Gives the descriptor to the caller, who has to close it. The object is closed afterwards, its mappings and
   * CPU accesses with it, and its pending waits are rejected.
   *
   * @throws DmaBufError `ENOMEM` where `close()` throws it
   */
  release(): number {
    return DmaBuf.#of(this).checkOpen().release();
  }

  /**
   * Ends CPU accesses, unmaps everything that this object mapped, rejects pending waits, and closes the descriptor. The
   * memory goes when its last holder does. Does nothing the second time.
   *
   * @throws DmaBufError `ENOMEM` when the process has as many mappings as it may have, and the kernel cannot put zeros in
   *   the place of one; the buffer is not closed then, and it can be tried again
   */
  close(): void {
    DmaBuf.#of(this).close();
  }

  /** What the buffer is, for logs and as JSON: its size, name, exporter and source, as far as they can still be told. */
  toJSON(): object {
    const buffer = DmaBuf.#of(this);
    const source = this.#source === undefined ? {} : { source: this.#source };
    return buffer.show({ ...(buffer.closed ? buffer.known : {}), ...source });
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    DmaBuf.#of(this).close();
  }
}

type Constructor = new (buffer: OpenBuffer, source: string | undefined) => DmaBuf;

/**
 * The same as {@link DmaBuf.importFrom}.
 *
 * @param pid The process, as numbered in this PID namespace.
 * @param fd Its descriptor's number there.
 */
export function importFrom(pid: number, fd: number): DmaBuf {
  return DmaBuf.importFrom(pid, fd);
}

/** Makes the DmaBuf of a handle that the addon has just yielded, at `place` in a message. */
export function createDmaBuf(handle: NativeHandle, source?: string, place = 0): DmaBuf {
  return new (DmaBuf as unknown as Constructor)(new OpenBuffer(handle, place), source);
}

/** For when the caller's own error matters more than one from END. */
function endQuietly(access: CpuAccess): void {
  try {
    access.end();
  } catch {
    // The caller's error is on its way.
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    (isObject(value) || typeof value === 'function') && 'then' in value && typeof value.then === 'function'
  );
}
