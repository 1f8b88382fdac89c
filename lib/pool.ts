import { setMaxListeners } from 'node:events';
import { type AllocateOptions, allocate, allocateOptions, checkAllocation } from './allocate.js';
import {
  checkDuration,
  checkFlag,
  checkInteger,
  checkOptions,
  checkSize,
  closedError,
  illegalConstructor,
  invalidThis,
  isObject,
} from './check.js';
import type { DmaBuf } from './dma-buf.js';
import { callSite } from './errors.js';
import { checkWaitOptions, PendingWaits, type WaitOptions } from './wait.js';

/** What a {@link DmaBufPool} holds and how many. */
export interface PoolOptions extends AllocateOptions {
  /** Most buffers at a time, handed out and idle together: 1 to 2^20. Default 8. */
  max?: number | undefined;
  /** How many buffers stay when trimming, those that are handed out included: at most `max`. Default 0. */
  min?: number | undefined;
  /** Milliseconds after which an idle buffer is given back to the system. Default 10 000; 0 keeps them. */
  idleTimeout?: number | undefined;
  /** Clear a buffer before it is handed out again: for content that its next user must not see. Default false. */
  zero?: boolean | undefined;
}

const poolOptions: readonly string[] = [...allocateOptions, 'max', 'min', 'idleTimeout', 'zero'];

/** A pool's figures, now and since it was made. */
export interface PoolStatistics {
  /** Buffers handed out. */
  inUse: number;
  /** Buffers waiting to be handed out, devices that still use them included. */
  idle: number;
  /** Calls of `acquire()` that wait. */
  waiting: number;
  /** Buffers that were allocated since the pool was made. */
  allocated: number;
  /** How often a buffer was handed out again. */
  reused: number;
  /** Buffers given back to the system because they were idle. */
  trimmed: number;
}

/** Known to this module alone, so that nobody else constructs. */
const construct = Symbol('PooledBuffer');

/** A buffer on loan from a pool; {@link DmaBufPool.acquire} hands it out. */
export class PooledBuffer implements Disposable {
  /** The buffer. Do not close it, nor use it after `release()`; what you set on it (its name) stays for its next user. */
  readonly buffer: DmaBuf;
  #giveBack: ((buffer: DmaBuf) => void) | undefined;

  /** @internal */
  constructor(buffer: DmaBuf, giveBack: (buffer: DmaBuf) => void, token: symbol) {
    if (token !== construct) throw illegalConstructor('PooledBuffer', 'DmaBufPool.acquire()');
    this.buffer = buffer;
    this.#giveBack = giveBack;
  }

  static #of(self: PooledBuffer): PooledBuffer {
    if (!isObject(self) || !(#giveBack in self)) throw invalidThis('PooledBuffer');
    return self;
  }

  /** Whether `release()` was called. */
  get released(): boolean {
    return PooledBuffer.#of(this).#giveBack === undefined;
  }

  /**
   * Gives the buffer back. Devices may still be using it: the pool waits for their fences before it hands the
   * buffer out again. Does nothing the second time.
   */
  release(): void {
    if (PooledBuffer.#of(this).#giveBack === undefined) return;
    const giveBack = this.#giveBack;
    this.#giveBack = undefined;
    lost.unregister(this);
    giveBack?.(this.buffer);
  }

  /** The same as `release()`. */
  [Symbol.dispose](): void {
    PooledBuffer.prototype.release.call(this);
  }
}

/** Loans that were collected without `release()`: their place in the pool becomes free. */
const lost = new FinalizationRegistry<() => void>((forget) => forget());

interface Idle {
  buffer: DmaBuf;
  since: number;
  watched: boolean;
}

/**
 * Buffers of one size, used again and again. Allocating one for every frame fragments contiguous memory and
 * clears pages that are overwritten anyway.
 *
 * A buffer is handed out only when all its fences have signalled. Calls that find none wait in line.
 *
 * @example
 * using pool = new DmaBufPool(1920 * 1080 * 4, { from: ['cma', 'system'], max: 4 });
 * using frame = await pool.acquire({ timeout: 1000 });
 * frame.buffer.withCpuAccessSync('write', (bytes) => bytes.fill(0));
 */
export class DmaBufPool implements Disposable {
  readonly #size: number;
  readonly #options: AllocateOptions;
  readonly #zero: boolean;
  readonly #max: number;
  readonly #min: number;
  readonly #idleTimeout: number;
  readonly #idle: Idle[] = [];
  readonly #queue: ((outcome: PooledBuffer | Error) => void)[] = [];
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
   * @throws RangeError `ERR_OUT_OF_RANGE`
   */
  constructor(size: number, options: PoolOptions = {}) {
    this.#size = checkSize(size);
    checkOptions(options, poolOptions);
    const { max = 8, min = 0, idleTimeout = 10_000, zero, from, name, access, unchecked } = options;
    const request = { from, name, access, unchecked };
    checkAllocation(size, request);
    this.#max = checkInteger(max, 'max', 1, 2 ** 20);
    this.#min = checkInteger(min, 'min', 0, this.#max);
    this.#idleTimeout = checkDuration(idleTimeout, 'idleTimeout');
    this.#options = request;
    this.#zero = checkFlag(zero, 'zero');
  }

  static #of(self: DmaBufPool): DmaBufPool {
    if (!isObject(self) || !(#size in self)) throw invalidThis('DmaBufPool');
    return self;
  }

  /** Bytes of every buffer, as asked for. */
  get size(): number {
    return DmaBufPool.#of(this).#size;
  }

  /** Most buffers at a time. */
  get max(): number {
    return DmaBufPool.#of(this).#max;
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return DmaBufPool.#of(this).#closed;
  }

  /**
   * A buffer whose fences have all signalled: an idle one, else a new one, else the next that is given back or
   * that devices are done with. Calls are served in the order they were made.
   *
   * @throws DmaBufError what `allocate()` throws, `ETIMEDOUT`, `ERR_DMABUF_CLOSED` when the pool is closed; or the
   *   signal's reason
   */
  async acquire(options?: WaitOptions): Promise<PooledBuffer> {
    if (DmaBufPool.#of(this).#closed) throw closedError('DmaBufPool');
    const limits = checkWaitOptions(options);
    if (this.#queue.length === 0) {
      const buffer = this.#takeReady();
      if (buffer !== undefined) return this.#lend(buffer);
    }
    const outcome = await this.#waits.run<PooledBuffer | Error>(
      (done) => {
        const waiter = (result: PooledBuffer | Error): void => void done(0, result);
        this.#queue.push(waiter);
        this.#serve();
        return () => {
          const place = this.#queue.indexOf(waiter);
          if (place >= 0) this.#queue.splice(place, 1);
          this.#stopWatchingWhenServed();
        };
      },
      limits,
      callSite(this.acquire),
      'waiting for a buffer of the pool',
    );
    if (outcome instanceof Error) throw outcome;
    return outcome;
  }

  /**
   * Gives idle buffers back to the system until `min` buffers are left; the pool does so by itself with what has
   * been idle for `idleTimeout`.
   *
   * @returns How many went.
   */
  trim(): number {
    return DmaBufPool.#of(this).#trimIdleSince(Number.POSITIVE_INFINITY);
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
   * Closes the idle buffers and rejects who waits. Buffers on loan are closed when they are given back. Does
   * nothing the second time.
   */
  close(): void {
    if (DmaBufPool.#of(this).#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const { buffer } of this.#idle.splice(0)) buffer.close();
    this.#waits.rejectAll('DmaBufPool');
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    DmaBufPool.prototype.close.call(this);
  }

  /** Every buffer that exists or is on its way. */
  get #total(): number {
    return this.#inUse + this.#idle.length + this.#allocating;
  }

  /** Of the buffers that no device uses any more the one that came back last: the others may then be trimmed. */
  #takeReady(): DmaBuf | undefined {
    for (let place = this.#idle.length - 1; place >= 0; place--) {
      const idle = this.#idle[place] as Idle;
      if (!this.#isReady(idle)) continue;
      this.#idle.splice(place, 1);
      this.#reused++;
      if (this.#zero) idle.buffer.withCpuAccessSync('write', (bytes) => void bytes.fill(0));
      return idle.buffer;
    }
    return undefined;
  }

  #isReady(idle: Idle): boolean {
    try {
      return idle.buffer.isReady('read-write');
    } catch {
      // Somebody closed it, or its descriptor, after giving it back.
      this.#drop(idle);
      return false;
    }
  }

  #drop(idle: Idle): void {
    const place = this.#idle.indexOf(idle);
    if (place >= 0) this.#idle.splice(place, 1);
    idle.buffer.close();
  }

  #lend(buffer: DmaBuf): PooledBuffer {
    this.#inUse++;
    const loan = new PooledBuffer(buffer, (returned) => this.#takeBack(returned), construct);
    lost.register(loan, () => this.#forgetLoan(), loan);
    return loan;
  }

  #takeBack(buffer: DmaBuf): void {
    this.#inUse--;
    if (this.#closed) buffer.close();
    else if (!buffer.closed) {
      this.#idle.push({ buffer, since: performance.now(), watched: false });
      this.#scheduleTrim();
    }
    this.#serve();
  }

  #forgetLoan(): void {
    this.#inUse--;
    this.#serve();
  }

  /** Hands out what there is, in the order of the queue, and sees to it that more comes. */
  #serve(): void {
    while (this.#queue.length > 0) {
      const buffer = this.#takeReady();
      if (buffer === undefined) break;
      this.#queue.shift()?.(this.#lend(buffer));
    }
    while (this.#allocating < this.#queue.length && this.#total < this.#max) this.#allocate();
    this.#watchBusy();
    this.#stopWatchingWhenServed();
  }

  #allocate(): void {
    this.#allocating++;
    allocate(this.#size, this.#options).then(
      (buffer) => {
        this.#allocating--;
        this.#allocated++;
        const waiter = this.#queue.shift();
        if (this.#closed) buffer.close();
        else if (waiter !== undefined) waiter(this.#lend(buffer));
        else {
          this.#idle.push({ buffer, since: performance.now(), watched: false });
          this.#scheduleTrim();
        }
      },
      (error: Error) => {
        this.#allocating--;
        // The head of the queue bears it, unless another allocation is on its way to it.
        if (this.#queue.length > this.#allocating) this.#queue.shift()?.(error);
        this.#serve();
      },
    );
  }

  /** While calls wait, the idle buffers that devices still use are waited for. */
  #watchBusy(): void {
    if (this.#queue.length === 0) return;
    for (const idle of this.#idle) {
      if (idle.watched) continue;
      idle.watched = true;
      if (this.#watching === undefined) {
        this.#watching = new AbortController();
        setMaxListeners(0, this.#watching.signal);
      }
      const { signal } = this.#watching;
      idle.buffer.ready('read-write', { signal }).then(
        () => {
          idle.watched = false;
          this.#serve();
        },
        () => {
          idle.watched = false;
          if (signal.aborted) return; // Nobody waits any more.
          this.#drop(idle);
          this.#serve();
        },
      );
    }
  }

  #stopWatchingWhenServed(): void {
    if (this.#queue.length > 0) return;
    this.#watching?.abort();
    this.#watching = undefined;
  }

  #scheduleTrim(): void {
    if (this.#idleTimeout === 0 || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#trimIdleSince(performance.now() - this.#idleTimeout);
      if (this.#idle.length > 0 && this.#total > this.#min) this.#scheduleTrim();
    }, this.#idleTimeout).unref();
  }

  #trimIdleSince(limit: number): number {
    let count = 0;
    while (this.#idle.length > 0 && this.#total > this.#min && (this.#idle[0] as Idle).since <= limit) {
      this.#idle.shift()?.buffer.close();
      count++;
    }
    this.#trimmed += count;
    return count;
  }
}
