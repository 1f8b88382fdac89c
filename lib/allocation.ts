import { createDmaBuf, type DmaBuf } from './dma-buf.js';
import { atCallSite, type CallSite, createError, type DmaBufError } from './errors.js';
import { askedForAt } from './handle.js';
import { type NativeHandle, native } from './native.js';

/** Names a buffer that the kernel has just made; what cannot be named is not kept. */
export function finishAllocation(handle: NativeHandle, name: string | undefined, source: string): DmaBuf {
  const buffer = createDmaBuf(handle, source);
  if (name !== undefined) {
    try {
      buffer.setName(name);
    } catch (error) {
      buffer.close();
      throw error;
    }
  }
  return buffer;
}

/** What an allocation on the thread pool calls: with a handle, or with a negative errno and the call's name. */
export type AllocationDone = (handleOrErrno: number, syscall: string | undefined) => void;

/**
 * Runs an allocation on the thread pool. The kernel cannot be stopped: when `signal` aborts, the promise rejects
 * at once and the buffer is closed when it comes.
 */
export function runAllocation(
  start: (done: AllocationDone) => void,
  options: { name?: string; signal?: AbortSignal } | undefined,
  source: string,
  site: CallSite,
): Promise<DmaBuf> {
  const signal = options?.signal;
  return new Promise((resolve, reject) => {
    let aborted = false;
    const abort = (): void => {
      aborted = true;
      reject(signal?.reason);
    };
    start((handleOrErrno, syscall) => {
      signal?.removeEventListener('abort', abort);
      if (handleOrErrno < 0) {
        if (!aborted) reject(atCallSite(createError(handleOrErrno, syscall), site));
        return;
      }
      if (aborted) {
        native.close(handleOrErrno);
        return;
      }
      try {
        resolve(askedForAt(site, () => finishAllocation(handleOrErrno, options?.name, source)));
      } catch (error) {
        reject(atCallSite(error as DmaBufError, site));
      }
    });
    signal?.addEventListener('abort', abort, { once: true });
  });
}
