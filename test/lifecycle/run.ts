import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { noHeap } from '../support/needs.js';
import type { Report, Scenario } from './scenario.js';

/** How a child process ended and what it wrote. */
export interface Outcome<R = Report> {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Its lines of JSON on standard output. */
  reports: R[];
  stderr: string;
}

/** How to run a child process. */
export interface RunOptions<R> {
  /** The command that runs Node, such as one that lowers a limit. */
  through?: readonly string[];
  /** Environment variables besides this process's own. */
  env?: NodeJS.ProcessEnv;
  /** Seconds. Only ends what hangs; default 300. */
  limit?: number;
  /** Sees each report as it comes. */
  onReport?: (report: R, child: ChildProcess) => void;
}

/** Runs a program of this folder with garbage collection by hand. */
export function runChild<R>(
  name: string,
  args: readonly string[],
  { through = [], env = {}, limit = 300, onReport }: RunOptions<R> = {},
): Promise<Outcome<R>> {
  const program = fileURLToPath(new URL(`./${name}.js`, import.meta.url));
  const [command, ...rest] = [...through, process.execPath, '--expose-gc', program, ...args];
  return new Promise((resolve, reject) => {
    const child = spawn(command as string, rest, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
      timeout: 1000 * limit,
      killSignal: 'SIGKILL',
    });
    const reports: R[] = [];
    let line = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = (line + text).split('\n');
      line = lines.pop() as string;
      for (const complete of lines) {
        if (!complete.startsWith('{')) continue;
        const report = JSON.parse(complete) as R;
        reports.push(report);
        onReport?.(report, child);
      }
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stderr, reports }));
  });
}

/** Runs scenarios of one file one after the other in one process. */
function runScenarios(
  file: URL,
  names: readonly string[],
  options?: RunOptions<Report>,
): Promise<Outcome<Report>> {
  return runChild('child', [file.href, ...names], options);
}

/** Asserts that `stderr` has these warnings, in this order, and nothing else. */
function assertWarnings(stderr: string, expected: readonly RegExp[]): void {
  const lines = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('(Use `node --trace-'));
  assert.equal(lines.length, expected.length, stderr);
  for (const [index, pattern] of expected.entries()) assert.match(lines[index] as string, pattern);
}

/** What scenarios that share a process need and do. */
export interface TogetherOptions extends Pick<RunOptions<Report>, 'env' | 'limit' | 'through'> {
  /** The lines that they write on standard error; none by default. */
  stderr?: readonly RegExp[];
  /** Why they cannot run here. By default they need a heap. */
  skip?: string | false;
}

/**
 * Tests that survive: the scenarios share a process, since starting one takes long. What ends it fails its own
 * scenario, and the next ones go on in another process.
 */
export function testTogether(
  title: string,
  file: URL,
  scenarios: readonly Scenario[],
  { stderr = [], skip: skipAll = noHeap, ...options }: TogetherOptions = {},
): void {
  describe(title, { skip: skipAll }, () => {
    const errors = new Map<string, string | undefined>();
    const outcomes: Outcome[] = [];

    before(async () => {
      let left = scenarios.filter(({ skip = false }) => skip === false).map(({ name }) => name);
      while (left.length > 0) {
        const outcome = await runScenarios(file, left, options);
        outcomes.push(outcome);
        for (const { name, error } of outcome.reports) errors.set(name, error);
        left = left.slice(outcome.reports.length);
        const [culprit] = left;
        if (culprit === undefined) break;
        errors.set(culprit, `the process ended: ${outcome.signal ?? outcome.code}\n${outcome.stderr}`);
        left = left.slice(1);
      }
    });

    for (const { name, skip = false } of scenarios) {
      test(name, { skip }, () => {
        assert.ok(errors.has(name), 'did not run');
        const error = errors.get(name);
        assert.ok(error === undefined, error);
      });
    }

    test('the process that did all this ends with code 0 and says nothing but what was promised', () => {
      for (const { code, signal } of outcomes) assert.deepEqual({ code, signal }, { code: 0, signal: null });
      assertWarnings(outcomes.map((outcome) => outcome.stderr).join(''), stderr);
    });
  });
}

/** How a process is expected to end. */
export interface Ending {
  code?: number;
  signal?: NodeJS.Signals;
  /** What it is expected to write to standard error; nothing by default. */
  stderr?: RegExp;
}

/** Asserts that a process ended in this way. */
export function assertEnded(
  { code, signal, stderr }: Omit<Outcome<unknown>, 'reports'>,
  ending: Ending = {},
): void {
  const expected =
    ending.signal === undefined
      ? { code: ending.code ?? 0, signal: null }
      : { code: null, signal: ending.signal };
  assert.deepEqual({ code, signal }, expected, stderr);
  assert.match(stderr, ending.stderr ?? /^$/);
}

/** Tests of how a process ends: each scenario has its own. */
export function testEnding(file: URL, { name, skip = false }: Scenario, ending: Ending = {}): void {
  test(name, { skip: noHeap || skip }, async () => {
    const outcome = await runScenarios(file, [name]);
    for (const { error } of outcome.reports) assert.ok(error === undefined, error);
    assertEnded(outcome, ending);
  });
}
