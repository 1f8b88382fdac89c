import { type NativeHandle, native } from '../native.js';

/** How many files one job of the thread pool merges: so many descriptors does it copy, and so long does it keep a thread. */
const mostAtOnce = 16;

/** What is merged, and who is told how that has ended. */
export interface MergeUser {
  /** Throws when the file has been closed. */
  handleAt: (place: number) => NativeHandle;
  done: (handle: NativeHandle, failure: number) => void;
  refuse: (errno: number, syscall: string | undefined) => void;
  fail: (error: unknown) => void;
}

/** A merge of many sync_files, a few at a time: of the files, then of what that has made, until one is left. */
export class Merge {
  readonly #name: string;
  readonly #count: number;
  readonly #user: MergeUser;
  /** What was made of the files and is to be merged on; -1 once closed. Empty while the files themselves are. */
  #level: NativeHandle[] = [];
  #made: NativeHandle[] = [];
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
    const handles = new Float64Array(length);
    for (let index = 0; index < length; index++) {
      const place = this.#next + (index < count ? index : count - 1);
      handles[index] = this.#isOfFiles ? this.#user.handleAt(place) : (this.#level[place] as NativeHandle);
    }
    native.mergeSyncFilesAsync(this.#name, handles, (handleOrErrno, syscall) =>
      this.#goOn(count, handleOrErrno, syscall),
    );
  }

  #goOn(count: number, handleOrErrno: number, syscall: string | undefined): void {
    try {
      if (handleOrErrno < 0) {
        this.#end();
        this.#user.refuse(handleOrErrno, syscall);
        return;
      }
      if (this.#isOver) {
        native.unclaimed[0] = 0;
        native.close(handleOrErrno);
        return;
      }
      this.#failure ||= native.registers[0] as number;
      this.#next += count;
      const isLevelDone = this.#next === (this.#isOfFiles ? this.#count : this.#level.length);
      if (isLevelDone && this.#made.length === 0) {
        this.#end();
        this.#user.done(handleOrErrno, this.#failure);
        return;
      }
      this.#made[this.#made.length] = handleOrErrno;
      native.unclaimed[0] = 0;
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
function closeAll(handles: NativeHandle[]): void {
  for (let index = 0; index < handles.length; index++) {
    const handle = handles[index] as NativeHandle;
    handles[index] = -1;
    if (handle >= 0) native.close(handle);
  }
}
