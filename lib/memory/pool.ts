import { setMaxListeners } from 'node:events';
import { type DmaBuf, tryToClear } from '../buffer/dma-buf.js';
import {
  checkDuration,
  checkFlag,
  checkInteger,
  checkSize,
  closedError,
  illegalConstructor,
  invalidThis,
  invalidValue,
  isObject,
  outOfRange,
  readOptions,
} from '../check.js';
import { callSite, DmaBufError } from '../errors.js';
import { checkWaitOptions, PendingWaits, type WaitOptions } from '../fence/wait.js';
import { apply, register, unregister } from '../intrinsics.js';
import { markUncloneable, showDetails } from '../present.js';
import { Queue, type Queued } from '../queue.js';
import { type AllocateOptions, allocate, allocateOptions, checkAllocation } from './allocate.js';

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

/** A buffer that was handed out. */
interface Loan {
  readonly pool: DmaBufPool;
  readonly buffer: DmaBuf;
  isOut: boolean;
}

/** Known to this module alone, so that nobody else constructs. */
const construct = Symbol('PooledBuffer');
let takeBack: (loan: Loan) => void;
let forget: (loan: Loan) => void;
let createPooledBuffer: (loan: Loan) => PooledBuffer;

/** A buffer on loan from a pool; {@link DmaBufPool.acquire} hands it out. */
export class PooledBuffer implements Disposable {
  static {
    showDetails(PooledBuffer.prototype, 'PooledBuffer');
    createPooledBuffer = (loan) => new PooledBuffer(loan, construct);
  }

  readonly #loan: Loan;

  private constructor(loan: Loan, token: symbol) {
    if (token !== construct) throw illegalConstructor('PooledBuffer', 'DmaBufPool.acquire()');
    this.#loan = loan;
    markUncloneable?.(this);
  }

  static #of(self: PooledBuffer): Loan {
    if (!isObject(self) || !(#loan in self)) throw invalidThis('PooledBuffer');
    return self.#loan;
  }

  /**
   * The buffer. Do not close it, and keep no reference to it beyond `release()`: the next user gets the same object. What you
   * set on it (its name) stays for that one.
   *
   * @throws DmaBufError `ERR_DMABUF_CLOSED` after `release()`
   */
  get buffer(): DmaBuf {
    const { buffer, isOut } = PooledBuffer.#of(this);
    if (isOut) return buffer;
    const code = 'ERR_DMABUF_CLOSED';
    throw new DmaBufError(`${code}: this PooledBuffer was released`, { code });
  }

  /** Whether `release()` was called. */
  get released(): boolean {
    return !PooledBuffer.#of(this).isOut;
  }

  /**
   * Gives the buffer back. Devices may still be using it: the pool waits for their fences before it hands the
   * buffer out again. Does nothing the second time.
   */
  release(): void {
    const loan = PooledBuffer.#of(this);
    if (!loan.isOut) return;
    takeBack(loan);
    unregister(lost as never, this);
  }

  /** What was lent, for logs and as JSON. */
  toJSON(): object {
    const { buffer, isOut } = PooledBuffer.#of(this);
    return { type: 'PooledBuffer', buffer, released: !isOut };
  }

  /** The same as `release()`. */
  [Symbol.dispose](): void {
    apply(PooledBuffer.prototype.release, this, []);
  }
}

/** Loans that were collected without `release()`: their place in the pool becomes free. */
const lost = new FinalizationRegistry<Loan>((loan) => forget(loan));

interface Idle {
  readonly buffer: DmaBuf;
  readonly since: number;
  isWatched: boolean;
}

/** A call that waits. */
interface Waiter extends Queued<Waiter> {
  give(loan: PooledBuffer): boolean;
  fail(error: unknown): void;
}

// Taken when this is loaded, for what programs put in its place later.
const { queueMicrotask } = globalThis;

/** Closes what nobody shall get any more; what speaks against it is not the business of whoever is served. */
function closeQuietly(buffer: DmaBuf): void {
  try {
    buffer.close();
  } catch {
    // It stays open until it is collected.
  }
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
  static {
    showDetails(DmaBufPool.prototype, 'DmaBufPool');
  }

  readonly #size: number;
  readonly #options: AllocateOptions;
  readonly #zero: boolean;
  readonly #max: number;
  readonly #min: number;
  readonly #idleTimeout: number;
  readonly #idle: Idle[] = []; // the one that came back last at the end
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
   * @throws TypeError `ERR_INVALID_ARG_VALUE` for `zero` with an access that does not allow to clear a buffer
   * @throws RangeError `ERR_OUT_OF_RANGE`
   */
  constructor(size: number, options?: PoolOptions) {
    this.#size = checkSize(size);
    const wanted = readOptions(options, poolOptions);
    const { max = 8, min = 0, idleTimeout = 10_000, zero, from, name, access, unchecked } = wanted;
    // A list may be another by the time of the next allocation.
    const request = {
      from: checkAllocation(size, { from, name, access, unchecked }),
      name,
      access,
      unchecked,
    };
    this.#max = checkInteger(max, 'max', 1, 2 ** 20);
    this.#min = checkInteger(min, 'min', 0, 2 ** 20);
    if (min > this.#max) throw outOfRange('min', `at most ${this.#max}, which is max`, min);
    this.#idleTimeout = checkDuration(idleTimeout, 'idleTimeout');
    this.#options = request;
    this.#zero = checkFlag(zero, 'zero');
    markUncloneable?.(this);
    if (this.#zero && access !== undefined && access !== 'read-write') {
      throw invalidValue(
        `The option zero needs access 'read-write': what is opened for '${access}' cannot be cleared`,
      );
    }
  }

  static {
    takeBack = (loan) => loan.pool.#takeBack(loan);
    forget = (loan) => loan.pool.#forget(loan);
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
      const loan = this.#lendReady();
      if (loan !== undefined) return loan;
    }
    return await this.#waits.run<PooledBuffer>(
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
      callSite(DmaBufPool.prototype.acquire),
      'waiting for a buffer of the pool',
      () => this.#adviseLate(),
    );
  }

  /**
   * Gives idle buffers back to the system until `min` buffers are left; the pool does so by itself with what has
   * been idle for `idleTimeout`.
   *
   * @returns How many went.
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
   * Closes the idle buffers and rejects who waits. Buffers on loan are closed when they are given back. Does
   * nothing the second time.
   */
  close(): void {
    if (DmaBufPool.#of(this).#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waits.rejectAll('DmaBufPool');
    while (this.#idle.length > 0) closeQuietly(this.#removeIdle(this.#idle.length - 1).buffer);
  }

  /** The pool's figures, for logs and as JSON. */
  toJSON(): object {
    const pool = DmaBufPool.#of(this);
    return {
      type: 'DmaBufPool',
      size: pool.#size,
      max: pool.#max,
      ...pool.statistics(),
      closed: pool.#closed,
    };
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    apply(DmaBufPool.prototype.close, this, []);
  }

  /** What keeps a call waiting that has waited too long. */
  #adviseLate(): string {
    if (this.#total < this.#max || this.#allocating > 0) {
      return 'A new buffer was still being allocated: allow more time, or have the pool keep more of them (min, idleTimeout)';
    }
    const loans = `${this.#inUse} of the pool's ${this.#max} buffers (max) are on loan`;
    const fences = `${this.#idle.length} wait for devices`;
    return (
      `${loans}, ${fences}: release() loans sooner, or raise max. statistics() has the pool's figures; openHandles() says ` +
      'where buffers were made, if setHandleTracking(true) came first'
    );
  }

  /** Every buffer that exists or is on its way. */
  get #total(): number {
    return this.#inUse + this.#idle.length + this.#allocating;
  }

  /** Lends, of the buffers that no device uses any more, the one that came back last: the others may then be trimmed. */
  #lendReady(): PooledBuffer | undefined {
    for (let place = this.#idle.length - 1; place >= 0; place--) {
      const { buffer } = this.#idle[place] as Idle;
      const state = this.#prepare(buffer);
      if (state === 'busy') continue;
      if (state === 'unusable') {
        this.#removeIdle(place);
        closeQuietly(buffer);
        continue;
      }
      // Made before anything is counted: it may be what cannot be made any more.
      const loan = this.#makeLoan(buffer);
      this.#removeIdle(place);
      this.#inUse++;
      this.#reused++;
      return loan;
    }
    return undefined;
  }

  /** Makes a buffer ready for its next user, where no device uses it. */
  #prepare(buffer: DmaBuf): 'ready' | 'busy' | 'unusable' {
    try {
      const isReady = this.#zero ? tryToClear(buffer) : buffer.isReady('read-write');
      return isReady ? 'ready' : 'busy';
    } catch {
      // Somebody closed it, or its descriptor, after giving it back; or it cannot be cleared. A new one comes cleared.
      return 'unusable';
    }
  }

  #removeIdle(place: number): Idle {
    const idle = this.#idle[place] as Idle;
    for (let index = place + 1; index < this.#idle.length; index++) {
      this.#idle[index - 1] = this.#idle[index] as Idle;
    }
    this.#idle.length--;
    return idle;
  }

  #makeLoan(buffer: DmaBuf): PooledBuffer {
    const loan: Loan = { pool: this, buffer, isOut: true };
    const pooled = createPooledBuffer(loan);
    register(lost, pooled, loan, pooled);
    return pooled;
  }

  /** Throws before anything has changed, or not at all: a loan is never half given back. */
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
    if (!isClosed) this.#idle[this.#idle.length] = { buffer, since, isWatched: false };
  }

  #forget(loan: Loan): void {
    if (!loan.isOut) return;
    loan.isOut = false;
    this.#inUse--;
    this.#serveQuietly();
  }

  /** Where nobody can be told what went wrong but those who wait. */
  #serveQuietly(): void {
    try {
      this.#serve();
    } catch (error) {
      for (let waiter = this.#queue.take(); waiter !== undefined; waiter = this.#queue.take())
        waiter.fail(error);
    }
  }

  /** Hands out what there is, in the order of the queue, and sees to it that more comes. */
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

  /** To the head of the queue, or back where nobody waits any more. */
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
      buffer = await allocate(this.#size, this.#options);
    } catch (error) {
      this.#allocating--;
      // The head of the queue bears it, unless another allocation is on its way to it.
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
    const loan = this.#makeLoan(buffer);
    this.#inUse++;
    this.#hand(loan);
  }

  /** While calls wait, the idle buffers that devices still use are waited for. */
  #watchBusy(): void {
    if (this.#queue.length === 0) return;
    for (let place = 0; place < this.#idle.length; place++) {
      const idle = this.#idle[place] as Idle;
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
      // Nobody waits any more, or it cannot be waited for: then it goes, and makes room for another.
      if (!signal.aborted) this.#drop(idle);
    }
    idle.isWatched = false;
    this.#serveQuietly();
  }

  #drop(idle: Idle): void {
    for (let place = 0; place < this.#idle.length; place++) {
      if (this.#idle[place] !== idle) continue;
      this.#removeIdle(place);
      closeQuietly(idle.buffer);
    }
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
      // Timers count whole milliseconds: who has less than one left is due.
      this.#trimIdle(({ since }) => since + this.#idleTimeout - now < 1);
      const oldest = this.#idle[0];
      if (oldest === undefined || this.#total <= this.#min) return;
      this.#scheduleTrim(Math.min(oldest.since + this.#idleTimeout - now, this.#idleTimeout));
    }, Math.ceil(delay));
    // Some stand-ins for the clock have numbers for timers.
    timer.unref?.();
    this.#timer = timer;
  }

  /** The oldest first. */
  #trimIdle(isDue: (idle: Idle) => boolean): number {
    let count = 0;
    while (this.#total > this.#min && this.#idle.length > 0 && isDue(this.#idle[0] as Idle)) {
      closeQuietly(this.#removeIdle(0).buffer);
      count++;
    }
    this.#trimmed += count;
    return count;
  }
}
