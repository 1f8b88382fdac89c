import { DmaBufError } from '../errors.js';

/**
 * What went wrong in the runner:
 *
 * - `ERR_DMABUF_VM_OPTION`: this machine does not have what an option asks for, or QEMU refuses it.
 * - `ERR_DMABUF_VM_UNSUPPORTED`: this machine cannot run the guest at all.
 * - `ERR_DMABUF_VM_TOOL`: a program is missing and could not be installed.
 * - `ERR_DMABUF_VM_KERNEL`: no such kernel, or it could not be downloaded.
 * - `ERR_DMABUF_VM_STORAGE`: the cache folder, or the one for temporary files, cannot be used, or not all output could be
 *   moved to its folder.
 * - `ERR_DMABUF_VM_MODULE`: a kernel module is unknown or did not load.
 * - `ERR_DMABUF_VM_BUILD`: a kernel module could not be built.
 * - `ERR_DMABUF_VM_QEMU`: QEMU refused to start or ended with an error.
 * - `ERR_DMABUF_VM_BOOT`: the guest did not get as far as starting the command.
 * - `ERR_DMABUF_VM_PANIC`: the guest's kernel panicked.
 * - `ERR_DMABUF_VM_DIED`: the guest ended without reporting an exit status.
 * - `ETIMEDOUT`: the time limit was reached; the guest was ended.
 * - `ERR_DMABUF_VM_ABORTED`: the user has ended the guest from its terminal.
 * - `ERR_DMABUF_VM_OUTPUT`: the caller's stdout or stderr sink failed; the guest was ended.
 * - `ERR_DMABUF_VM_INPUT`: the caller's stdin failed, or its terminal cannot be taken over; the guest was ended.
 */
export type VmErrorCode =
  | 'ERR_DMABUF_VM_OPTION'
  | 'ERR_DMABUF_VM_UNSUPPORTED'
  | 'ERR_DMABUF_VM_TOOL'
  | 'ERR_DMABUF_VM_KERNEL'
  | 'ERR_DMABUF_VM_STORAGE'
  | 'ERR_DMABUF_VM_MODULE'
  | 'ERR_DMABUF_VM_BUILD'
  | 'ERR_DMABUF_VM_QEMU'
  | 'ERR_DMABUF_VM_BOOT'
  | 'ERR_DMABUF_VM_PANIC'
  | 'ERR_DMABUF_VM_DIED'
  | 'ETIMEDOUT'
  | 'ERR_DMABUF_VM_ABORTED'
  | 'ERR_DMABUF_VM_OUTPUT'
  | 'ERR_DMABUF_VM_INPUT';

/** A failure of the runner itself, as opposed to a command that ran and returned a status. */
export class VmError extends DmaBufError {
  /** Which failure it is. */
  declare readonly code: VmErrorCode;
  /** The last lines of the guest's kernel, or those that explain it; empty when no guest had been started. */
  readonly consoleTail: string;

  /** The runner makes these itself. */
  constructor(
    code: VmErrorCode,
    message: string,
    details: { consoleTail?: string | undefined; hint?: string | undefined; cause?: unknown } = {},
  ) {
    const tail = details.consoleTail?.trimEnd() ?? '';
    const shown = tail === '' ? '' : `\nThe guest's kernel said:\n${tail.replace(/^/gm, '  | ')}`;
    super(`${code}: ${message}${shown}`, { code, hint: details.hint, cause: details.cause });
    this.consoleTail = tail;
  }
}
Object.defineProperty(VmError.prototype, 'name', { value: 'VmError', configurable: true, writable: true });
