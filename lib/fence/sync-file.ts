import { constants } from 'node:os';
import { checkFd, checkName, invalidType, isObject, outOfRange } from '../check.js';
import {
  aboutDescriptor,
  type CallSite,
  callSite,
  createError,
  DmaBufError,
  provideAdvice,
  unsupportedKernel,
} from '../errors.js';
import { isArray, itemsOf } from '../intrinsics.js';
import { native, Register, type Slot } from '../native.js';
import { brand, OpenFile, own } from '../open-file.js';
import { showDetails } from '../present.js';
import { traceAsync, type WaitTrace, waitTracing } from '../tracing.js';
import { checkWaitOptions, type Limits, PendingWaits, type WaitOptions } from '../wait.js';
import { Merge } from './merge.js';
import { errnoName, type FenceStatus, readInfo, type SyncFileInfo, statusOf } from './sync-file-info.js';

provideAdvice({ 'SYNC_IOC_FILE_INFO ENOTTY': 'The file descriptor does not refer to a sync_file' });

/** The slot of an open SyncFile. */
export let slotOfSyncFile: (file: SyncFile) => Slot;

/** Whether a value is a SyncFile of this copy of the package. Unlike instanceof, this cannot be deceived by a proxy. */
export let isSyncFile: (value: unknown) => value is SyncFile;
/** Makes the SyncFile of a slot that the addon has just yielded. */
export let createSyncFile: (slot: Slot, place?: number) => SyncFile;

function importDescriptor(fd: number, take: boolean): Slot {
  return aboutDescriptor(checkFd(fd), () => {
    const slot = native.importSyncFileFd(fd, take);
    if (slot < 0) throw createError(-constants.errno.ENOTTY, 'SYNC_IOC_FILE_INFO');
    return slot;
  });
}

/**
 * A sync_file: fences behind a file descriptor, which tells when the work of devices is done (Linux 4.7, exchanged with
 * dma-bufs since 6.0; the kernel's document driver-api/sync_file). {@link DmaBuf.exportSyncFile} and drivers make them.
 *
 * The object owns its descriptor, like a {@link DmaBuf}.
 */
export class SyncFile implements Disposable {
  static {
    showDetails(SyncFile.prototype, 'SyncFile');
  }

  readonly #file: OpenFile;
  /** The negative errno of a fence that ended in error before a merge left it out; else 0. */
  #failure = 0;

  static {
    isSyncFile = (value): value is SyncFile => isObject(value) && #file in value;
    slotOfSyncFile = (file) => SyncFile.#openOf(file).slot;
    createSyncFile = (slot, place) => new SyncFile(new OpenFile(slot, 'SyncFile', place));
  }

  private constructor(file: OpenFile) {
    const instead = 'DmaBuf.exportSyncFile(), SyncFile.import() or SyncFile.adopt()';
    this.#file = own(this, file, 'SyncFile', instead);
  }

  /**
   * Duplicates a sync_file's descriptor; the given one stays yours.
   *
   * @throws DmaBufError `ENOTTY` (not a sync_file), `EBADF` (not open), `EMFILE`
   */
  static import(fd: number): SyncFile {
    return createSyncFile(importDescriptor(fd, false));
  }

  /**
   * Takes over a sync_file's descriptor, and marks it close-on-exec. When this throws, the descriptor is still yours.
   *
   * @throws DmaBufError `ENOTTY` (not a sync_file), `EBADF` (not open)
   */
  static adopt(fd: number): SyncFile {
    return createSyncFile(importDescriptor(fd, true));
  }

  /**
   * A new sync_file that signals when all the given ones have (SYNC_IOC_MERGE). They stay open and unchanged.
   *
   * The kernel leaves out fences that have signalled, also those that failed. The new object remembers that one failed,
   * and so do its duplicates by `dup()`; the descriptor alone, sent to another process or released, does not.
   *
   * This blocks the event loop, for longer with more files: for more than a few dozen, use {@link SyncFile.mergeAsync}.
   *
   * @param name For debugging tools: at most 31 bytes of UTF-8, without NUL.
   *
   * @example
   * const both = SyncFile.merge('both', first.exportSyncFile('write'), second.exportSyncFile('write'));
   */
  static merge(name: string, first: SyncFile, second: SyncFile, ...more: SyncFile[]): SyncFile {
    checkName(name);
    const files: unknown[] = [first, second];
    for (let index = 0; index < more.length; index++) files[index + 2] = more[index];
    for (let index = 0; index < files.length; index++) {
      const file = files[index];
      if (!isSyncFile(file)) throw invalidType('files', 'SyncFiles', file);
    }
    const slots = new Float64Array(files.length);
    let known = 0;
    for (let index = 0; index < files.length; index++) {
      const file = files[index] as SyncFile;
      slots[index] = file.#file.checkOpen().slot;
      known ||= file.#failure;
    }
    const slot = native.mergeSyncFiles(name, slots);
    const failure = native.registers[Register.failure] as number;
    const merged = createSyncFile(slot);
    merged.#failure = failure || known;
    return merged;
  }

  /**
   * The same as {@link SyncFile.merge} for any number of files, on the thread pool and a few at a time, so that the event
   * loop is not blocked. When one of the files is closed before its turn, the merge fails.
   *
   * @param name For debugging tools: at most 31 bytes of UTF-8, without NUL.
   * @param files One or more. They stay open and unchanged.
   * @throws DmaBufError `EMFILE` (the merge uses up to 16 descriptors for a while, and one for every 16 files), `ENOMEM`,
   *   `ETIMEDOUT`, `ERR_DMABUF_CLOSED` when one of the files is closed; or the signal's reason
   *
   * @example
   * const all = await SyncFile.mergeAsync('frame', files, { signal });
   */
  static async mergeAsync(
    name: string,
    files: readonly SyncFile[],
    options?: WaitOptions,
  ): Promise<SyncFile> {
    checkName(name);
    if (!isArray(files)) throw invalidType('files', 'an array of SyncFiles', files);
    const parts = itemsOf(files as readonly SyncFile[]);
    if (parts.length === 0) throw outOfRange('files', 'one SyncFile or more', 'an empty array');
    for (let index = 0; index < parts.length; index++) {
      const file: unknown = parts[index];
      if (!isSyncFile(file)) throw invalidType('files', 'an array of SyncFiles', file);
      file.#file.checkOpen();
    }
    const limits = checkWaitOptions(options);
    let known = 0;
    return await new PendingWaits().run<SyncFile>(
      (done, fail) =>
        new Merge(name, parts.length, {
          slotAt: (place) => {
            const file = parts[place] as SyncFile;
            const { slot } = file.#file.checkOpen();
            known ||= file.#failure;
            return slot;
          },
          done: (slot, failure) => {
            const merged = createSyncFile(slot);
            merged.#failure = failure || known;
            if (!done(0, merged)) merged.close();
          },
          refuse: (errno, syscall) => void done(errno, undefined as never, syscall),
          fail,
        }).start(),
      limits,
      callSite(SyncFile.mergeAsync),
      'merging sync_files',
    );
  }

  /** The kernel's state, combined with the error that a merge left out. */
  #statusNow(): number {
    const status = native.syncFileStatus(this.#file.slot);
    return status < 0 || this.#failure === 0 ? status : this.#failure;
  }

  #withFailure(info: SyncFileInfo): SyncFileInfo {
    if (this.#failure !== 0 && info.status !== 'error') {
      info.status = 'error';
      info.error = errnoName(this.#failure);
    }
    return info;
  }

  static readonly #of = brand('SyncFile', (self) => (#file in self ? self : undefined));

  static #openOf(self: SyncFile): OpenFile {
    return SyncFile.#of(self).#file.checkOpen();
  }

  /** The file descriptor, lent: do not close it. -1 once closed. */
  get fd(): number {
    return SyncFile.#of(this).#file.fd;
  }

  /** Whether the object has given up its descriptor. */
  get closed(): boolean {
    return SyncFile.#of(this).#file.closed;
  }

  /** The state of all fences together: `'error'` when one of them ended in error. */
  get status(): FenceStatus {
    SyncFile.#openOf(this);
    return statusOf(this.#statusNow());
  }

  /** The present name, state and fences (SYNC_IOC_FILE_INFO). */
  info(): SyncFileInfo {
    const { slot } = SyncFile.#openOf(this);
    return this.#withFailure(readInfo(slot));
  }

  /**
   * Waits until all fences have signalled, through the event loop (poll(2)); a pending wait keeps the process alive.
   *
   * @throws DmaBufError with the errno's name of a fence that ended in error, `ETIMEDOUT` when `timeout` has passed,
   *   `ERR_DMABUF_CLOSED` when the object is closed meanwhile; or the signal's reason
   */
  async wait(options?: WaitOptions): Promise<void> {
    SyncFile.#openOf(this);
    const limits = checkWaitOptions(options);
    const siteOf = (): CallSite => callSite(SyncFile.prototype.wait);
    if (waitTracing.hasSubscribers) {
      const trace: WaitTrace = { operation: 'wait', ...this.#named(), timeout: limits.timeout };
      return await traceAsync(waitTracing, trace, () => this.#waitNow(limits, siteOf));
    }
    await this.#waitNow(limits, siteOf);
  }

  /** Its name, for subscribers: nothing if the kernel does not report it. */
  #named(): { name?: string } {
    try {
      return { name: readInfo(this.#file.slot).name };
    } catch {
      return {};
    }
  }

  async #waitNow(limits: Limits, siteOf: () => CallSite): Promise<void> {
    const file = this.#file.checkOpen();
    let status = native.syncFileStatus(file.slot);
    if (status === 0) {
      await file.wait(1, limits, siteOf(), 'waiting for the fences of a sync_file');
      status = native.syncFileStatus(file.checkOpen().slot);
    }
    if (status < 0 || this.#failure < 0) throw fenceError(status < 0 ? status : this.#failure);
  }

  /**
   * Tells the drivers when the fences are needed, so that they may raise clocks (SYNC_IOC_SET_DEADLINE, Linux 6.4).
   *
   * @param deadline CLOCK_MONOTONIC in nanoseconds, as `process.hrtime.bigint()` counts.
   * @throws DmaBufError `ERR_DMABUF_UNSUPPORTED_KERNEL` before Linux 6.4
   */
  setDeadline(deadline: bigint): void {
    const file = SyncFile.#openOf(this);
    if (typeof deadline !== 'bigint') throw invalidType('deadline', 'a bigint', deadline);
    if (deadline < 0n || deadline >= 2n ** 64n) throw outOfRange('deadline', 'from 0 to 2^64 - 1', deadline);
    unsupportedKernel('SYNC_IOC_SET_DEADLINE', '6.4', () => native.setDeadline(file.slot, deadline));
  }

  /** The same fences behind a new descriptor, to be closed on its own. */
  dup(): SyncFile {
    const copy = createSyncFile(native.duplicate(SyncFile.#openOf(this).slot));
    copy.#failure = this.#failure;
    return copy;
  }

  /**
   * Gives the descriptor to the caller, who has to close it. The object is closed afterwards, and pending waits are
   * rejected.
   */
  release(): number {
    return SyncFile.#of(this).#file.release();
  }

  /** Closes the descriptor and rejects pending waits. A second call does nothing. */
  close(): void {
    SyncFile.#of(this).#file.close();
  }

  /** A description for logs and JSON: its name and state, as far as they are still known. */
  toJSON(): object {
    const file = SyncFile.#of(this);
    if (file.#file.closed) return file.#file.show();
    try {
      const { name, status, error, fences } = file.info();
      const failure = error === undefined ? {} : { error };
      return {
        type: 'SyncFile',
        name,
        status,
        ...failure,
        fences: fences.length,
        fd: file.#file.fd,
        closed: false,
      };
    } catch {
      return file.#file.show();
    }
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    SyncFile.#of(this).#file.close();
  }
}

function fenceError(errno: number): DmaBufError {
  const code = errnoName(errno);
  return new DmaBufError(`${code}: a fence ended in error: the device did not finish its work`, {
    code,
    errno,
  });
}
