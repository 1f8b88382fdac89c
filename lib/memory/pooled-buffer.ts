import type { DmaBuf } from '../buffer/dma-buf.js';
import { illegalConstructor } from '../check.js';
import { DmaBufError } from '../errors.js';
import { apply, register, unregister } from '../intrinsics.js';
import { brand } from '../open-file.js';
import { markUncloneable, showDetails } from '../present.js';

/** The lender of a buffer. */
export interface Lender {
  /** Takes it back. If this throws, nothing has changed: a loan is never returned only in part. */
  takeBack(loan: Loan): void;
  /** The loan was garbage-collected without `release()`: the pool may allocate another buffer. */
  forget(loan: Loan): void;
}

/** A buffer on loan. */
export interface Loan {
  readonly lender: Lender;
  readonly buffer: DmaBuf;
  isOut: boolean;
}

/** Known only to this file, so that no other code can construct one. */
const construct = Symbol('PooledBuffer');
let createPooledBuffer: (loan: Loan) => PooledBuffer;

/** A buffer on loan from a pool, which {@link DmaBufPool.acquire} returns. */
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

  static readonly #of = brand('PooledBuffer', (self) => (#loan in self ? self.#loan : undefined));

  /**
   * The buffer. Do not close it, and keep no reference to it beyond `release()`: the next user gets the same object. What
   * you set on it (its name) stays set for that user.
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
   * Returns the buffer to the pool. Devices may still be using it: the pool waits for their fences before it lends the
   * buffer again. A second call does nothing.
   */
  release(): void {
    const loan = PooledBuffer.#of(this);
    if (!loan.isOut) return;
    loan.lender.takeBack(loan);
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

/** Detects loans that were garbage-collected without `release()`. */
const lost = new FinalizationRegistry<Loan>((loan) => loan.lender.forget(loan));

/** Lends a buffer. */
export function lend(lender: Lender, buffer: DmaBuf): PooledBuffer {
  const loan: Loan = { lender, buffer, isOut: true };
  const pooled = createPooledBuffer(loan);
  register(lost, pooled, loan, pooled);
  return pooled;
}
