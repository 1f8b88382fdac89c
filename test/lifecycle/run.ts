import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Report, Scenario } from './scenario.js';

function whyNot(): string | false {
  try {
    closeSync(openSync('/dev/dma_heap/system', 'r'));
    return false;
  } catch (error) {
    return `${(error as Error).message}; run the tests in a VM`;
  }
}

const noHeap: string | false = whyNot();

/** How a child process ended and what it wrote. */
export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  reports: Report[];
  stderr: string;
}

const child = fileURLToPath(new URL('./child.js', import.meta.url));

/** Runs scenarios of one file one after the other in one process. The limit only ends what hangs. */
function runScenarios(file: URL, names: readonly string[]): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const program = spawn(process.execPath, ['--expose-gc', child, file.href, ...names], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 100_000,
      killSignal: 'SIGKILL',
    });
    let stdout = '';
    let stderr = '';
    program.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    program.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    program.on('error', reject);
    program.on('close', (code, signal) => {
      const reports = stdout.split('\n').filter((line) => line.startsWith('{'));
      resolve({ code, signal, stderr, reports: reports.map((line) => JSON.parse(line) as Report) });
    });
  });
}

/** Asserts that `stderr` has these warnings, in this order, and nothing else. */
function assertWarnings(stderr: string, expected: readonly RegExp[]): void {
  const lines = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('(Use `node --trace-'));
  assert.equal(lines.length, expected.length, stderr);
  for (const [index, pattern] of expected.entries()) assert.match(lines[index] as string, pattern);
}

/**
 * Tests that survive: the scenarios share a process, since starting one takes long. What ends it fails its own
 * scenario, and the next ones go on in another process.
 */
export function testTogether(
  title: string,
  file: URL,
  scenarios: readonly Scenario[],
  warnings: readonly RegExp[] = [],
): void {
  describe(title, { skip: noHeap }, () => {
    const errors = new Map<string, string | undefined>();
    const outcomes: Outcome[] = [];

    before(async () => {
      let left = scenarios.filter(({ skip = false }) => skip === false).map(({ name }) => name);
      while (left.length > 0) {
        const outcome = await runScenarios(file, left);
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
      assertWarnings(outcomes.map(({ stderr }) => stderr).join(''), warnings);
    });
  });
}

/** How a scenario's own process shall end. */
export interface Ending {
  code?: number;
  signal?: NodeJS.Signals;
  /** What it shall write on standard error; nothing by default. */
  stderr?: RegExp;
}

/** Tests of how a process ends: each scenario has its own. */
export function testEnding(file: URL, { name, skip = false }: Scenario, ending: Ending = {}): void {
  test(name, { skip: noHeap || skip }, async () => {
    const { code, signal, stderr, reports } = await runScenarios(file, [name]);
    for (const { error } of reports) assert.ok(error === undefined, error);
    const expected =
      ending.signal === undefined
        ? { code: ending.code ?? 0, signal: null }
        : { code: null, signal: ending.signal };
    assert.deepEqual({ code, signal }, expected, stderr);
    assert.match(stderr, ending.stderr ?? /^$/);
  });
}
