/** A stage that was reached. */
export interface Standing {
  /** The buffers that must go from the kernel with the process. */
  inodes: number[];
  /** Buffers of this many bytes, which nobody else makes, must be gone as well: those that nobody has seen yet. */
  size?: number;
  /** Fences that have not signalled. While a wait for one was pending when its worker ended, the kernel keeps the buffer. */
  fences?: number[];
  /** Has what is pending come to its end: it keeps the process alive until then. */
  finish?: () => void;
  /** What is pending; settles after `finish()`. */
  pending?: Promise<unknown>[];
  /**
   * Does what the stage is about once more, with no descriptor left; what it needs beside that operation it may have
   * from `free()`, which frees one.
   */
  again(free: () => void): unknown;
}

/** What stages.child.ts writes when it has reached a stage. */
export interface StageReport {
  name: string;
  inodes: number[];
  size?: number;
  /** Of `again()`: the code of its error. */
  outcome?: string;
}

/** What the stages have in common. */
export type Group = 'idle' | 'sockets' | 'fences' | 'busy';

export interface Reachable {
  /** As the user sees it: "a process ends while …" */
  name: string;
  /** Why it cannot be reached here. */
  skip?: string | false;
  /** The error of `again()` with no descriptor left; none where it needs no descriptor. */
  withoutDescriptors?: string;
  enter(): Standing | Promise<Standing>;
}

export interface Stage extends Reachable {
  group: Group;
}
