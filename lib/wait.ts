import { checkInteger, checkOptions, checkSignal, closedError } from './check.js';
import { atCallSite, type CallSite, createError, DmaBufError } from './errors.js';

/** How long to wait, and what else ends the wait. */
export interface WaitOptions {
  /** When it aborts, the promise rejects with its reason. */
  signal?: AbortSignal;
  /** Milliseconds, at most 2^31 − 1; then the promise rejects with `ETIMEDOUT`. Default: no limit. */
  timeout?: number;
}

/** Finds every fault of the options; throws the signal's reason when it has aborted already. */
export function checkWaitOptions(options: WaitOptions | undefined): WaitOptions {
  if (options === undefined) return {};
  checkOptions(options);
  if (options.timeout !== undefined) checkInteger(options.timeout, 'timeout', 0, 2 ** 31 - 1);
  checkSignal(options.signal)?.throwIfAborted();
  return options;
}

/** Starts something that calls `done` once, with what it yields or a negative errno; returns how to cancel it. */
export type Start<T> = (
  done: (errno: number, value: T, syscall?: string) => void,
  fail: (error: unknown) => void,
) => () => void;

/** The waits of one object: they end when it is closed. */
export class PendingWaits {
  readonly #closings = new Set<(type: string) => void>();

  /**
   * Runs a wait: settles when it is done, when `options.signal` aborts, when the time is over, or when the
   * object is closed, whichever comes first. Errors carry the stack of `site`.
   */
  run<T>(start: Start<T>, options: WaitOptions, site: CallSite, what: string): Promise<T> {
    const { signal, timeout } = options;
    return new Promise((resolve, reject) => {
      let settled = false;
      let timer: NodeJS.Timeout | undefined;
      let cancel: (() => void) | undefined;
      const settle = (): void => {
        settled = true;
        clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
        this.#closings.delete(close);
      };
      const fail = (error: unknown): void => {
        if (settled) return;
        settle();
        cancel?.();
        reject(error);
      };
      const abort = (): void => fail(signal?.reason);
      const close = (type: string): void => fail(atCallSite(closedError(type), site));
      cancel = start((errno, value, syscall = 'poll') => {
        if (settled) return;
        settle();
        if (errno < 0) reject(atCallSite(createError(errno, syscall), site));
        else resolve(value);
      }, fail);
      if (settled) return; // It was done at once.
      this.#closings.add(close);
      signal?.addEventListener('abort', abort, { once: true });
      if (timeout !== undefined) {
        timer = setTimeout(() => {
          const message = `ETIMEDOUT: ${what} was not over after ${timeout} ms`;
          fail(atCallSite(new DmaBufError(message, { code: 'ETIMEDOUT' }), site));
        }, timeout);
      }
    });
  }

  /** The object of `type` is being closed: rejects every wait with `ERR_DMABUF_CLOSED`. */
  rejectAll(type: string): void {
    for (const close of [...this.#closings]) close(type);
  }
}
