/** Something to do in a process of its own, which may not survive it. */
export interface Scenario {
  /** What the user sees: the test's name. */
  name: string;
  /** Why it cannot run here. */
  skip?: string | false;
  run(): void | Promise<void>;
}

/** What a child process writes on standard output, one JSON line per scenario that came to its end. */
export interface Report {
  name: string;
  /** The stack of what it threw. */
  error?: string;
}
