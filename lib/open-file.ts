import { closedError, illegalConstructor, invalidThis, isObject } from './check.js';
import type { CallSite } from './errors.js';
import {
  describe,
  guard,
  type HandleType,
  noSentinel,
  type OpenHandle,
  type Sentinel,
  unguard,
} from './handle.js';
import { native, Register, type Slot, Yielded } from './native.js';
import { markUncloneable } from './present.js';
import { type Limits, PendingWaits, type Start } from './wait.js';

/**
 * The open file that an object owns: its descriptor, the waits for it, and the detection of its loss. Every class with a
 * descriptor has one in a private member, which a {@link brand} reads.
 */
export class OpenFile {
  // Plain fields, set in the constructor: no user ever gets this object, and one is created for every buffer.
  /** -1 once closed. */
  slot: Slot;
  readonly type: HandleType;
  private knownFd: number; // -1 until it is needed
  private waits: PendingWaits | undefined;
  private sentinel: Sentinel; // watches nothing once closed

  /** Claims what the addon has just yielded, at `place` in a message or a pair. */
  constructor(slot: Slot, type: HandleType, place: number = Yielded.only) {
    this.slot = slot;
    this.type = type;
    this.knownFd = -1;
    this.waits = undefined;
    this.sentinel = guard(slot, type, new.target, place);
  }

  /** -1 once closed. */
  get fd(): number {
    if (this.knownFd < 0 && this.slot >= 0) {
      native.describe(this.slot);
      this.knownFd = native.registers[Register.fd] as number;
    }
    return this.knownFd;
  }

  get closed(): boolean {
    return this.slot < 0;
  }

  /** Returns itself. Throws `ERR_DMABUF_CLOSED` once it is closed. */
  checkOpen(): this {
    if (this.slot < 0) throw closedError(this.type);
    return this;
  }

  /** Runs a wait that ends when the file is closed; see {@link PendingWaits.run}. */
  run<T>(start: Start<T>, limits: Limits, site: CallSite, what: string): Promise<T> {
    this.waits ??= new PendingWaits();
    return this.waits.run(start, limits, site, what);
  }

  /** Waits, through the event loop, until the fences that matter for an access have signalled. */
  wait(direction: number, limits: Limits, site: CallSite, what: string): Promise<void> {
    return this.run<void>(
      (done) => {
        const wait = native.poll(this.slot, direction, (errno) => done(errno, undefined), false);
        return () => native.cancelPoll(wait);
      },
      limits,
      site,
      what,
    );
  }

  /** What has to be done before the descriptor is closed or given away. */
  protected leave(_handle: Slot): void {}

  /**
   * Rejects pending waits, and closes the descriptor; returns whether the buffer had been lost. A second call does
   * nothing. If the kernel cannot replace a mapping, this throws and the file stays open.
   */
  close(): boolean {
    this.waits?.rejectAll(this.type);
    const { slot } = this; // read now: a rejected wait may have closed it
    if (slot < 0) return false;
    this.leave(slot);
    const lost = native.close(slot) === true;
    this.slot = -1;
    this.sentinel.record.slot = -1;
    this.forget(slot);
    return lost;
  }

  /** Rejects pending waits, and gives the descriptor away. */
  release(): number {
    native.verify(this.checkOpen().slot);
    this.waits?.rejectAll(this.type);
    const { slot } = this.checkOpen();
    this.leave(slot);
    const fd = native.release(slot);
    this.slot = -1;
    this.sentinel.record.slot = -1;
    this.forget(slot);
    native.unclaimed[Yielded.only] = 0;
    return fd;
  }

  private forget(slot: Slot): void {
    this.knownFd = -1;
    unguard(this.sentinel, slot);
    this.sentinel = noSentinel;
  }

  /** What the kernel says about it; nothing once closed. */
  describe(): OpenHandle | { type: HandleType } {
    return this.slot < 0 ? { type: this.type } : describe(this.slot, this.type);
  }

  /** The owner in logs and as JSON; `about` has the owner's own details. */
  show(about: object = {}): object {
    return { ...this.describe(), ...about, closed: this.slot < 0 };
  }
}

/**
 * The brand check of a class: returns what one of its objects has in a private member, and throws `ERR_INVALID_THIS` for
 * anything else. It does not depend on proxies or prototypes.
 *
 * @example
 * static readonly #of = brand('DmaHeap', (self) => (#file in self ? self.#file : undefined));
 */
export function brand<Part>(
  type: string,
  partOf: (self: object) => Part | undefined,
): (self: object) => Part {
  return (self) => {
    const part = isObject(self) ? partOf(self) : undefined;
    if (part === undefined) throw invalidThis(type);
    return part;
  };
}

/**
 * The file that a constructor was given for its object. Users have no such file to pass, so that their calls of a
 * constructor throw `ERR_ILLEGAL_CONSTRUCTOR`.
 */
export function own<File extends OpenFile>(owner: object, file: File, type: string, instead: string): File {
  if (!(file instanceof OpenFile)) throw illegalConstructor(type, instead);
  markUncloneable?.(owner);
  return file;
}
