import { AssertionError } from 'node:assert';
import type { TestContext } from 'node:test';
import { Script } from 'node:vm';
import type { GuestEvent, GuestValue } from './test-reporter.js';

/** As many subtests at a time as there are: the guest decides which of them run together. */
const MANY = 1_000_000;

/** Something that comes later. */
class Later<T> {
  readonly promise: Promise<T>;
  resolve!: (value: T) => void;

  constructor() {
    this.promise = new Promise((resolve) => {
      this.resolve = resolve;
    });
  }
}

type Outcome = Pick<GuestEvent, 'skip' | 'todo' | 'failure'>;

/** One test of the guest's, and the subtest that stands for it here. */
class Replayed {
  readonly children: Replayed[] = [];
  readonly outcome = new Later<Outcome>();
  readonly context = new Later<TestContext>();
  /** When the subtest has ended here. */
  readonly ended: Promise<unknown>;
  isSettled = false;
  /** Whether the events that come in the order of the report have come to it. */
  isReported = false;
  /** Whether it has to wait for those, since tests in it could not be told apart before. */
  isInOrder = false;

  constructor(
    readonly event: GuestEvent | undefined,
    readonly parent: Replayed | undefined,
    define: (body: (context: TestContext) => Promise<void>) => Promise<unknown>,
  ) {
    this.ended = define((context) => this.#run(context));
    // A test that is left out here (`--test-name-pattern`) never runs, and so do not those in it.
    parent?.children.push(this);
  }

  settle(outcome: Outcome): void {
    this.isSettled = true;
    this.outcome.resolve(outcome);
  }

  /** Ends when the guest's test has ended, in the same way. */
  async #run(context: TestContext): Promise<void> {
    this.context.resolve(context);
    const { skip, todo, failure } = await this.outcome.promise;
    await Promise.all(this.children.map(({ ended }) => ended));
    const reason = (value: string | boolean): string | undefined =>
      typeof value === 'string' ? value : undefined;
    if (skip !== undefined && skip !== false) context.skip(reason(skip));
    if (todo !== undefined && todo !== false) context.todo(reason(todo));
    // That tests in it have failed is seen here too.
    if (failure !== undefined && failure.type !== 'subtestsFailed') throw restored(failure.cause);
  }

  /** This and those that it is in. */
  *upwards(): Generator<Replayed> {
    for (let one: Replayed | undefined = this; one !== undefined; one = one.parent) yield one;
  }

  /** This and those that are in it. */
  *downwards(): Generator<Replayed> {
    yield this;
    for (const child of this.children) yield* child.downwards();
  }
}

/**
 * The tests of one file as subtests. They begin and end when the guest's do, by the events that come at once
 * (`test:dequeue`, `test:complete`), so that they last as long. Before Node.js 24 these do not say what a test is in: where
 * several tests with others in them run side by side, those that cannot be told apart wait for the events in the order of
 * the report (`test:start`, `test:pass`, `test:fail`), which do.
 */
export class FileReplay {
  /** When all of them have ended. */
  readonly ended: Promise<unknown>;
  readonly #file: Replayed;
  /** The tests that the events in the order of the report are in. */
  readonly #stack: Replayed[] = [];
  readonly #byId = new Map<number, Replayed>();
  #hasFailed = false;
  #hasEnded = false;

  constructor(t: TestContext, name: string, path: string) {
    const define = at(path, 1, 1);
    this.#file = new Replayed(undefined, undefined, (body) => define(t, name, { concurrency: MANY }, body));
    this.ended = this.#file.ended;
  }

  /** Takes an event of the guest's. */
  handle(event: GuestEvent): void {
    if (event.type === 'test:dequeue') this.#begin(event);
    else if (event.type === 'test:complete') this.#complete(event);
    else if (event.type === 'test:start') this.#startReport(event);
    else if (event.type === 'test:diagnostic') this.#passOn(event);
    else this.#report(event);
  }

  /**
   * The file's process has ended: `problem` says how, where it has not ended well, and `said` is the last that it wrote. A
   * problem that failed tests bring with them is none of its own.
   */
  async end(problem: string | undefined, said: string, isOfFailedTests = false): Promise<void> {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    const text = said.trim() === '' ? '' : `. It wrote last:\n${said.trimEnd().replace(/^/gm, '  | ')}`;
    const fail = (what: string): Outcome => {
      this.#hasFailed = true;
      return { ...PASSED, failure: { type: undefined, cause: { thrown: `${what}${text}` } } };
    };
    const unfinished = [...this.#file.downwards()].slice(1).filter(({ isSettled }) => !isSettled);
    const around = new Set<Replayed>();
    for (const one of unfinished.reverse()) {
      // The error is that of the innermost; those around it fail with it.
      const isInnermost = !around.has(one);
      for (const outer of one.upwards()) around.add(outer);
      one.settle(
        isInnermost
          ? fail(`this test had not ended when its file ${problem ?? 'ended with status 0'}`)
          : PASSED,
      );
    }
    const isExplained = this.#hasFailed && (isOfFailedTests || unfinished.length > 0);
    this.#file.settle(problem === undefined || isExplained ? PASSED : fail(`the file ${problem}`));
    await this.ended;
  }

  /** What a test is in, by its number where there is one; undefined where that cannot be told. */
  #parentOf({ nesting, parentId }: GuestEvent): Replayed | undefined {
    if (nesting === 0) return this.#file;
    if (parentId !== undefined) return this.#byId.get(parentId);
    const open = this.#openAt(nesting - 1);
    if (open.length === 1) return open[0];
    for (const one of open) for (const around of one.upwards()) around.isInOrder = true;
    return undefined;
  }

  #openAt(nesting: number): Replayed[] {
    return [...this.#file.downwards()].filter(
      ({ event, isSettled }) => event?.nesting === nesting && !isSettled,
    );
  }

  #begin(event: GuestEvent): void {
    const parent = this.#parentOf(event);
    if (parent !== undefined) this.#create(event, parent);
  }

  #create(event: GuestEvent, parent: Replayed): Replayed {
    const { name, file, line = 1, column = 1, testId } = event;
    const define = at(file ?? '', line, column);
    const one = new Replayed(event, parent, async (body) =>
      define(await parent.context.promise, name, { concurrency: MANY }, body),
    );
    if (testId !== undefined) this.#byId.set(testId, one);
    return one;
  }

  #complete(event: GuestEvent): void {
    const known = event.testId === undefined ? undefined : this.#byId.get(event.testId);
    const alike =
      known === undefined ? this.#openAt(event.nesting).filter((one) => isSame(one, event)) : [known];
    if (alike.length > 1) for (const one of alike) one.isInOrder = true;
    const [one] = alike;
    if (one !== undefined && !one.isInOrder) this.#settle(one, event);
  }

  #startReport(event: GuestEvent): void {
    const parent = event.nesting === 0 ? this.#file : this.#stack[event.nesting - 1];
    if (parent === undefined) return;
    const known = parent.children.find((child) => !child.isReported && isSame(child, event));
    const one = known ?? this.#create(event, parent);
    one.isReported = true;
    this.#stack.splice(event.nesting, Infinity, one);
  }

  #report(event: GuestEvent): void {
    const one = this.#stack[event.nesting];
    if (one !== undefined && !one.isSettled) this.#settle(one, event);
  }

  #settle(one: Replayed, event: GuestEvent): void {
    if (event.failure !== undefined && !event.todo) this.#hasFailed = true;
    one.settle(event);
  }

  /** To the file's subtest: the test's own has ended when they come. The summary of the run is this run's to give. */
  #passOn({ nesting, message = '' }: GuestEvent): void {
    const isSummary =
      nesting === 0 && /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) [\d.]+$/.test(message);
    if (!isSummary) void this.#file.context.promise.then((context) => context.diagnostic(message));
  }
}

const PASSED: Outcome = { skip: undefined, todo: undefined, failure: undefined };

function isSame({ event }: Replayed, { name, file, line, column }: GuestEvent): boolean {
  return event?.name === name && event.file === file && event.line === line && event.column === column;
}

type Define = (
  t: TestContext,
  name: string,
  options: { concurrency: number },
  body: (context: TestContext) => Promise<void>,
) => Promise<void>;

/**
 * A function that makes a subtest at a place of a file: node:test takes for it where `test()` was called, and code that is
 * compiled can be given a place.
 */
function at(filename: string, line: number, column: number): Define {
  const code = `(t, name, options, body) => t.\n${' '.repeat(Math.max(column - 1, 0))}test(name, options, body)`;
  return new Script(code, { filename, lineOffset: line - 2 }).runInThisContext() as Define;
}

/** An error as it was in the guest: its stack names the files' lines. */
function restored(value: GuestValue): unknown {
  if ('thrown' in value) return typeof value.thrown === 'string' ? withoutPlace(value.thrown) : value.thrown;
  const { name, message, stack, properties, cause, errors } = value;
  // What shows an error looks at its class.
  const classes: Record<string, new (message: string) => Error> = { [name]: class extends Error {} };
  const error = new (classes[name] as (typeof classes)[string])(message);
  const hidden = { name, stack, cause: cause && restored(cause), errors: errors?.map(restored) };
  for (const [key, own] of Object.entries(hidden)) {
    if (own !== undefined)
      Object.defineProperty(error, key, { value: own, configurable: true, writable: true });
  }
  // It shows itself in a way of its own.
  if (properties.code === 'ERR_ASSERTION') Object.setPrototypeOf(error, AssertionError.prototype);
  return Object.assign(error, properties);
}

/** What node:test itself, or the runner, says of a test: a stack would lead to this file. */
function withoutPlace(message: string): Error {
  const error = new Error(message);
  error.stack = `Error: ${message}`;
  return error;
}
