import { setMaxListeners } from 'node:events';
import type { DmaBuf } from '../buffer/dma-buf.js';
import { closedError } from '../check.js';
import { type CallSite, callSite } from '../errors.js';
import { apply } from '../intrinsics.js';
import { brand } from '../open-file.js';
import { markUncloneable, showDetails } from '../present.js';
import { Queue, type Queued } from '../queue.js';
import { traceAsync, type WaitTrace, waitTracing } from '../tracing.js';
import { checkWaitOptions, type Limits, PendingWaits, type WaitOptions } from '../wait.js';
import { type AllocationRequest, allocateFirst } from './allocate.js';
import { closeQuietly, type Idle, IdleBuffers } from './idle-buffers.js';
import { checkPoolOptions, type PoolOptions } from './pool-options.js';
import { type Lender, type Loan, lend, type PooledBuffer } from './pooled-buffer.js';

/** A pool's figures, now and since it was created. */
export interface PoolStatistics {
  /** Buffers that are lent. */
  inUse: number;
  /** Buffers in the pool, including those that devices still use. */
  idle: number;
  /** Calls of `acquire()` that wait. */
  waiting: number;
  /** Buffers that were allocated since the pool was made. */
  allocated: number;
  /** How often a buffer was reused. */
  reused: number;
  /** Buffers that were freed because they were idle. */
  trimmed: number;
}

/** A call that waits. */
interface Waiter extends Queued<Waiter> {
  give(loan: PooledBuffer): boolean;
  fail(error: unknown): void;
}

// Read when this file is loaded, since programs may replace it later.
const { queueMicrotask } = globalThis;

/**
 * Buffers of one size, used again and again. Allocating one for every frame fragments contiguous memory and
 * clears pages that are overwritten anyway.
 *
 * A buffer is lent only when all its fences have signalled. Calls wait in a queue until one is available.
 *
 * @example
 * using pool = new DmaBufPool(1920 * 1080 * 4, { from: ['cma', 'system'], max: 4 });
 * using frame = await pool.acquire({ timeout: 1000 });
 * frame.buffer.withCpuAccessSync('write', (bytes) => bytes.fill(0));
 */
export class DmaBufPool implements Disposable {
  static {
    showDetails(DmaBufPool.prototype, 'DmaBufPool');
  }

  readonly #request: AllocationRequest;
  readonly #zero: boolean;
  readonly #max: number;
  readonly #min: number;
  readonly #idleTimeout: number;
  readonly #idle = new IdleBuffers();
  readonly #lender: Lender = {
    takeBack: (loan) => this.#takeBack(loan),
    forget: (loan) => this.#forget(loan),
  };
  readonly #queue = new Queue<Waiter>();
  readonly #waits = new PendingWaits();
  #closed = false;
  #inUse = 0;
  #allocating = 0;
  #allocated = 0;
  #reused = 0;
  #trimmed = 0;
  #watching: AbortController | undefined;
  #timer: NodeJS.Timeout | undefined;

  /**
   * Allocates nothing yet.
   *
   * @param size Bytes of every buffer; rounded up to pages.
   * @throws TypeError `ERR_INVALID_ARG_TYPE`
   * @throws TypeError `ERR_INVALID_ARG_VALUE` for `zero` with an access that does not allow the pool to clear a buffer
   * @throws RangeError `ERR_OUT_OF_RANGE`
   */
  constructor(size: number, options?: PoolOptions) {
    const { max, min, idleTimeout, zero, request } = checkPoolOptions(size, options);
    this.#request = request;
    this.#zero = zero;
    this.#max = max;
    this.#min = min;
    this.#idleTimeout = idleTimeout;
    markUncloneable?.(this);
  }

  static readonly #of = brand('DmaBufPool', (self) => (#request in self ? self : undefined));

  /** The requested size of every buffer in bytes. */
  get size(): number {
    return DmaBufPool.#of(this).#request.size;
  }

  /** The maximum number of buffers at a time. */
  get max(): number {
    return DmaBufPool.#of(this).#max;
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return DmaBufPool.#of(this).#closed;
  }

  /**
   * Lends a buffer whose fences have all signalled: an idle one, otherwise a new one, otherwise the next one that is
   * returned, or that devices have finished with. Calls are served in order.
   *
   * @throws DmaBufError what `allocate()` throws, `ETIMEDOUT`, `ERR_DMABUF_CLOSED` when the pool is closed; or the
   *   signal's reason
   */
  async acquire(options?: WaitOptions): Promise<PooledBuffer> {
    if (DmaBufPool.#of(this).#closed) throw closedError('DmaBufPool');
    const limits = checkWaitOptions(options);
    const siteOf = (): CallSite => callSite(DmaBufPool.prototype.acquire);
    if (waitTracing.hasSubscribers) {
      const trace: WaitTrace = { operation: 'acquire', size: this.#request.size, timeout: limits.timeout };
      return await traceAsync(waitTracing, trace, () => this.#lendNow() ?? this.#lendLater(limits, siteOf));
    }
    return this.#lendNow() ?? (await this.#lendLater(limits, siteOf));
  }

  #lendNow(): PooledBuffer | undefined {
    return this.#queue.length === 0 ? this.#lendReady() : undefined;
  }

  #lendLater(limits: Limits, siteOf: () => CallSite): Promise<PooledBuffer> {
    return this.#waits.run<PooledBuffer>(
      (done, fail) => {
        const waiter: Waiter = {
          give: (loan) => done(0, loan),
          fail,
          isQueued: false,
          previous: undefined,
          next: undefined,
        };
        const leave = (): void => {
          this.#queue.remove(waiter);
          this.#stopWatchingWhenServed();
        };
        this.#queue.add(waiter);
        try {
          this.#serve();
        } catch (error) {
          leave();
          throw error;
        }
        return leave;
      },
      limits,
      siteOf(),
      'waiting for a buffer of the pool',
      () => this.#adviseLate(),
    );
  }

  /**
   * Frees idle buffers until `min` buffers are left; the pool does this by itself for buffers that have been idle for
   * `idleTimeout`.
   *
   * @returns How many were freed.
   */
  trim(): number {
    return DmaBufPool.#of(this).#trimIdle(() => true);
  }

  /** The pool's figures. */
  statistics(): PoolStatistics {
    const pool = DmaBufPool.#of(this);
    return {
      inUse: pool.#inUse,
      idle: pool.#idle.length,
      waiting: pool.#queue.length,
      allocated: pool.#allocated,
      reused: pool.#reused,
      trimmed: pool.#trimmed,
    };
  }

  /**
   * Closes the idle buffers and rejects waiting calls. Lent buffers are closed when they are returned. A second call does
   * nothing.
   */
  close(): void {
    if (DmaBufPool.#of(this).#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waits.rejectAll('DmaBufPool');
    while (this.#idle.length > 0) closeQuietly(this.#idle.removeAt(this.#idle.length - 1).buffer);
  }

  /** The pool's figures, for logs and as JSON. */
  toJSON(): object {
    const pool = DmaBufPool.#of(this);
    return {
      type: 'DmaBufPool',
      size: pool.#request.size,
      max: pool.#max,
      ...pool.statistics(),
      closed: pool.#closed,
    };
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    apply(DmaBufPool.prototype.close, this, []);
  }

  /** The reason why a call has waited too long. */
  #adviseLate(): string {
    if (this.#total < this.#max || this.#allocating > 0) {
      return 'A new buffer was still being allocated: allow more time, or let the pool keep more buffers (min, idleTimeout)';
    }
    const loans = `${this.#inUse} of the pool's ${this.#max} buffers (max) are on loan`;
    const fences = `${this.#idle.length} are still used by devices`;
    return (
      `${loans}, ${fences}: release() loans sooner, or raise max. statistics() has the pool's figures; openHandles() says ` +
      'where buffers were made, if setHandleTracking(true) was called before'
    );
  }

  /** How many buffers exist or are being allocated. */
  get #total(): number {
    return this.#inUse + this.#idle.length + this.#allocating;
  }

  /** Lends an idle buffer that no device uses. */
  #lendReady(): PooledBuffer | undefined {
    const loan = this.#idle.takeReady(this.#zero, (buffer) => lend(this.#lender, buffer));
    if (loan === undefined) return undefined;
    this.#inUse++;
    this.#reused++;
    return loan;
  }

  #takeBack(loan: Loan): void {
    const { buffer } = loan;
    if (this.#closed) {
      loan.isOut = false;
      this.#inUse--;
      buffer.close();
      return;
    }
    const isClosed = buffer.closed;
    const since = performance.now();
    if (this.#queue.length > 0) queueMicrotask(() => this.#serveQuietly());
    if (!isClosed && this.#idleTimeout !== 0 && this.#timer === undefined)
      this.#scheduleTrim(this.#idleTimeout);
    loan.isOut = false;
    this.#inUse--;
    if (!isClosed) this.#idle.add(buffer, since);
  }

  #forget(loan: Loan): void {
    if (!loan.isOut) return;
    loan.isOut = false;
    this.#inUse--;
    this.#serveQuietly();
  }

  /** For errors of which only the waiting calls can be informed. */
  #serveQuietly(): void {
    try {
      this.#serve();
    } catch (error) {
      for (let waiter = this.#queue.take(); waiter !== undefined; waiter = this.#queue.take())
        waiter.fail(error);
    }
  }

  /** Lends the available buffers, in the order of the queue, and allocates or waits for more if needed. */
  #serve(): void {
    while (this.#queue.length > 0) {
      const loan = this.#lendReady();
      if (loan === undefined) break;
      this.#hand(loan);
    }
    while (this.#allocating < this.#queue.length && this.#total < this.#max) void this.#allocate();
    this.#watchBusy();
    this.#stopWatchingWhenServed();
  }

  /** To the head of the queue, or back to the pool if no call waits by now. */
  #hand(loan: PooledBuffer): void {
    for (let waiter = this.#queue.take(); waiter !== undefined; waiter = this.#queue.take()) {
      if (waiter.give(loan)) return;
    }
    loan.release();
  }

  async #allocate(): Promise<void> {
    this.#allocating++;
    let buffer: DmaBuf;
    try {
      buffer = await allocateFirst(this.#request, undefined, callSite(this.#allocate));
    } catch (error) {
      this.#allocating--;
      // The call at the head of the queue gets the error, unless another allocation is pending for it.
      if (this.#queue.length > this.#allocating) this.#queue.take()?.fail(error);
      this.#serveQuietly();
      return;
    }
    this.#allocating--;
    this.#allocated++;
    if (this.#closed) {
      closeQuietly(buffer);
      return;
    }
    const loan = lend(this.#lender, buffer);
    this.#inUse++;
    this.#hand(loan);
  }

  /** While calls wait, the pool waits for the idle buffers that devices still use. */
  #watchBusy(): void {
    if (this.#queue.length === 0) return;
    for (let place = 0; place < this.#idle.length; place++) {
      const idle = this.#idle.at(place);
      if (idle.isWatched) continue;
      if (this.#watching === undefined) {
        this.#watching = new AbortController();
        setMaxListeners(0, this.#watching.signal);
      }
      void this.#watch(idle, this.#watching.signal);
    }
  }

  async #watch(idle: Idle, signal: AbortSignal): Promise<void> {
    idle.isWatched = true;
    try {
      await idle.buffer.ready('read-write', { signal });
    } catch {
      // No call waits by now, or the wait failed: then the buffer is closed, which makes room for another.
      if (!signal.aborted) this.#idle.drop(idle);
    }
    idle.isWatched = false;
    this.#serveQuietly();
  }

  #stopWatchingWhenServed(): void {
    if (this.#queue.length > 0) return;
    this.#watching?.abort();
    this.#watching = undefined;
  }

  #scheduleTrim(delay: number): void {
    const timer = setTimeout(() => {
      this.#timer = undefined;
      const now = performance.now();
      // Timers count whole milliseconds: a buffer with less than one left is due.
      this.#trimIdle(({ since }) => since + this.#idleTimeout - now < 1);
      const { oldest } = this.#idle;
      if (oldest === undefined || this.#total <= this.#min) return;
      this.#scheduleTrim(Math.min(oldest.since + this.#idleTimeout - now, this.#idleTimeout));
    }, Math.ceil(delay));
    // Some mocks of the clock use numbers for timers.
    timer.unref?.();
    this.#timer = timer;
  }

  /** The oldest first. */
  #trimIdle(isDue: (idle: Idle) => boolean): number {
    let count = 0;
    while (this.#total > this.#min && this.#idle.length > 0 && isDue(this.#idle.at(0))) {
      closeQuietly(this.#idle.removeAt(0).buffer);
      count++;
    }
    this.#trimmed += count;
    return count;
  }
}
