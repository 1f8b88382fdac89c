import { native, Register, type Slot, Yielded } from '../native.js';

/** How many files one job of the thread pool merges: so many descriptors does it copy, and so long does it keep a thread. */
const mostAtOnce = 16;

/** What is merged, and who is told how that has ended. */
export interface MergeUser {
  /** Throws when the file has been closed. */
  slotAt: (place: number) => Slot;
  done: (slot: Slot, failure: number) => void;
  refuse: (errno: number, syscall: string | undefined) => void;
  fail: (error: unknown) => void;
}

/** A merge of many sync_files, a few at a time: of the files, then of what that has made, until one is left. */
export class Merge {
  readonly #name: string;
  readonly #count: number;
  readonly #user: MergeUser;
  /** What was made of the files and is to be merged on; -1 once closed. Empty while the files themselves are. */
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

  /** Begins; returns how to give up. Throws when it cannot begin, and then nothing is left. */
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
    // One alone is merged with itself.
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

/** Closes what nobody else knows of. */
function closeAll(slots: Slot[]): void {
  for (let index = 0; index < slots.length; index++) {
    const slot = slots[index] as Slot;
    slots[index] = -1;
    if (slot >= 0) native.close(slot);
  }
}
