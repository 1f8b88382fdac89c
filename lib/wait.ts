import { onAbort, throwIfAborted } from './abort.js';
import { checkDuration, checkSignal, closedError, readOptions } from './check.js';
import { atCallSite, type CallSite, createError, DmaBufError } from './errors.js';
import { ceil, OwnPromise } from './intrinsics.js';
import { Queue, type Queued } from './queue.js';

/** How long to wait, and what else ends the wait. */
export interface WaitOptions {
  /** When it aborts, the promise rejects with its reason. */
  signal?: AbortSignal | undefined;
  /**
   * Milliseconds from 0 to 2^31 − 1, possibly a fraction; after that the promise rejects with `ETIMEDOUT`. Default: no
   * limit.
   */
  timeout?: number | undefined;
}

/** The options, each read once. */
export type Limits = Readonly<WaitOptions>;

export const waitOptions: readonly string[] = ['signal', 'timeout'];
const noLimits: Limits = {};

/** Checks the options; throws the signal's reason if the signal has already aborted. */
export function checkWaitOptions(options: WaitOptions | undefined): Limits {
  if (options === undefined) return noLimits;
  const { timeout, signal } = readOptions(options, waitOptions);
  if (timeout !== undefined) checkDuration(timeout, 'timeout');
  const usable = checkSignal(signal);
  throwIfAborted(usable);
  return { signal: usable, timeout };
}

/** Settles a wait, and returns whether it was the first to do so: otherwise nobody received the value. */
export type Done<T> = (errno: number, value: T, syscall?: string) => boolean;

/**
 * Starts something that calls `done` with what it yields or a negative errno, or `fail` with an error. Returns how to
 * cancel it, which is called when something else ends the wait first.
 */
export type Start<T> = (done: Done<T>, fail: (error: unknown) => void) => () => void;

/** A pending wait, in the list of those of its object. */
interface Pending extends Queued<Pending> {
  close: (type: string) => void;
}

function errorOf(make: () => unknown): unknown {
  try {
    return make();
  } catch (error) {
    return error;
  }
}

function quietly(action: (() => void) | undefined): void {
  try {
    action?.();
  } catch {
    // The caller has been answered.
  }
}

/** The waits of one object: they end when it is closed. */
export class PendingWaits {
  readonly #queue = new Queue<Pending>();

  /**
   * Runs a wait: the promise settles when the operation is done, when the signal aborts, when the time has passed, or
   * when the object is closed, whichever comes first. Errors carry the stack of `site`. Whatever `start`, the signal or a
   * timer throws rejects.
   *
   * @param what What the message says that the call waited for, when the time has passed.
   * @param advise The advice for that case; called while the wait is still pending.
   */
  run<T>(start: Start<T>, limits: Limits, site: CallSite, what: string, advise?: () => string): Promise<T> {
    const { signal, timeout } = limits;
    return new OwnPromise<T>((resolve, reject) => {
      let isSettled = false;
      let timer: NodeJS.Timeout | undefined;
      let cancel: (() => void) | undefined;
      let ignoreSignal: (() => void) | undefined;
      const settle = (): void => {
        isSettled = true;
        this.#queue.remove(pending);
        if (timer !== undefined) quietly(() => clearTimeout(timer));
        ignoreSignal?.();
      };
      const fail = (error: unknown): void => {
        if (isSettled) return;
        isSettled = true;
        reject(error);
        settle();
        quietly(cancel);
      };
      const done: Done<T> = (errno, value, syscall = 'poll') => {
        if (isSettled) return false;
        isSettled = true;
        if (errno < 0) reject(errorOf(() => atCallSite(createError(errno, syscall), site)));
        else resolve(value);
        settle();
        return errno >= 0;
      };
      const pending: Pending = {
        close: (type) => fail(errorOf(() => atCallSite(closedError(type), site))),
        isQueued: false,
        previous: undefined,
        next: undefined,
      };
      this.#queue.add(pending);
      try {
        if (signal !== undefined) {
          ignoreSignal = onAbort(signal, fail);
          // It called back immediately.
          if (isSettled) return ignoreSignal();
        }
        cancel = start(done, fail);
        if (isSettled) return quietly(cancel);
        if (timeout === undefined) return;
        timer = setTimeout(() => {
          const message = `ETIMEDOUT: ${what} was not over after ${timeout} ms`;
          const late = () => new DmaBufError(message, { code: 'ETIMEDOUT', hint: advise?.() });
          fail(errorOf(() => atCallSite(late(), site)));
        }, ceil(timeout));
      } catch (error) {
        fail(error);
      }
    });
  }

  /** The object of `type` is being closed: rejects every wait with `ERR_DMABUF_CLOSED`. */
  rejectAll(type: string): void {
    for (let pending = this.#queue.take(); pending !== undefined; pending = this.#queue.take()) {
      pending.close(type);
    }
  }
}
