import { native, Register, type Slot, Yielded } from '../native.js';

/**
 * How many files one job of the thread pool merges: this limits how many descriptors it copies, and how long it occupies
 * a thread.
 */
const mostAtOnce = 16;

/** What is merged, and the callbacks for the result. */
export interface MergeUser {
  /** Throws if the file has been closed. */
  slotAt: (place: number) => Slot;
  done: (slot: Slot, failure: number) => void;
  refuse: (errno: number, syscall: string | undefined) => void;
  fail: (error: unknown) => void;
}

/** A merge of many sync_files, a few at a time: first of the files, then of the results, until one is left. */
export class Merge {
  readonly #name: string;
  readonly #count: number;
  readonly #user: MergeUser;
  /** The intermediate results that are still to be merged; -1 once closed. Empty while the files themselves are merged. */
  #level: Slot[] = [];
  #made: Slot[] = [];
  #isOfFiles = true;
  #next = 0;
  #failure = 0;
  #isOver = false;

  constructor(name: string, count: number, user: MergeUser) {
    this.#name = name;
    this.#count = count;
    this.#user = user;
  }

  /** Begins; returns a function that cancels the merge. If this throws, nothing is left open. */
  start(): () => void {
    try {
      this.#mergeSome();
    } catch (error) {
      this.#end();
      throw error;
    }
    return () => this.#end();
  }

  #end(): void {
    this.#isOver = true;
    closeAll(this.#level);
    closeAll(this.#made);
  }

  #mergeSome(): void {
    const left = (this.#isOfFiles ? this.#count : this.#level.length) - this.#next;
    const count = left < mostAtOnce ? left : mostAtOnce;
    // A single file is merged with itself.
    const length = count < 2 ? 2 : count;
    const slots = new Float64Array(length);
    for (let index = 0; index < length; index++) {
      const place = this.#next + (index < count ? index : count - 1);
      slots[index] = this.#isOfFiles ? this.#user.slotAt(place) : (this.#level[place] as Slot);
    }
    native.mergeSyncFilesAsync(this.#name, slots, (slotOrErrno, syscall) =>
      this.#goOn(count, slotOrErrno, syscall),
    );
  }

  #goOn(count: number, slotOrErrno: number, syscall: string | undefined): void {
    try {
      if (slotOrErrno < 0) {
        this.#end();
        this.#user.refuse(slotOrErrno, syscall);
        return;
      }
      if (this.#isOver) {
        native.unclaimed[Yielded.only] = 0;
        native.close(slotOrErrno);
        return;
      }
      this.#failure ||= native.registers[Register.failure] as number;
      this.#next += count;
      const isLevelDone = this.#next === (this.#isOfFiles ? this.#count : this.#level.length);
      if (isLevelDone && this.#made.length === 0) {
        this.#end();
        this.#user.done(slotOrErrno, this.#failure);
        return;
      }
      this.#made[this.#made.length] = slotOrErrno;
      native.unclaimed[Yielded.only] = 0;
      if (isLevelDone) this.#climb();
      this.#mergeSome();
    } catch (error) {
      this.#end();
      this.#user.fail(error);
    }
  }

  #climb(): void {
    closeAll(this.#level);
    this.#level = this.#made;
    this.#made = [];
    this.#isOfFiles = false;
    this.#next = 0;
  }
}

/** Closes the intermediate results, which no other code knows. */
function closeAll(slots: Slot[]): void {
  for (let index = 0; index < slots.length; index++) {
    const slot = slots[index] as Slot;
    slots[index] = -1;
    if (slot >= 0) native.close(slot);
  }
}
