// Test files that run in a guest and report through the run outside.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { findKernel } from '../../lib/vm/kernels.js';
import { blocksIn, textOf } from '../support/documents.js';
import type { Recorded } from '../support/guest-suites/recorder.js';
import { installCopy } from '../support/installed.js';
import { packageRoot } from '../support/programs.js';

const suites = fileURLToPath(new URL('../support/guest-suites/', import.meta.url));

interface Run {
  recorded: Recorded[];
  diagnostics: string[];
  output: string;
  status: number;
}

/** Runs a file of tests as somebody does who has node:test report to a file of their own. */
async function runTests(file: string, env: Record<string, string> = {}): Promise<Run> {
  const reporter = `--test-reporter=${join(suites, 'recorder.js')}`;
  // As in a run that nobody tests.
  const { NODE_TEST_CONTEXT: _, ...own } = process.env;
  const child = spawn(
    process.execPath,
    [reporter, '--test-reporter-destination=stderr', resolve(suites, file)],
    {
      cwd: packageRoot,
      env: { ...own, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  const [output, report, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ]);
  const lines = report
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Recorded & { diagnostic?: string });
  return {
    recorded: lines.filter(({ diagnostic }) => diagnostic === undefined),
    diagnostics: lines.flatMap(({ diagnostic }) => diagnostic ?? []),
    output,
    status: status as number,
  };
}

/** The tests that are in the one with this name, which is reported after them. */
function within({ recorded }: Run, name: string): Recorded[] {
  const end = recorded.findIndex((one) => one.name === name);
  assert.ok(end >= 0, `there is no ${name}`);
  const { nesting } = recorded[end] as Recorded;
  const before = recorded
    .slice(0, end)
    .filter((one) => one.nesting <= nesting)
    .at(-1);
  const start = before === undefined ? 0 : recorded.indexOf(before) + 1;
  return recorded.slice(start, end).map((one) => ({ ...one, nesting: one.nesting - nesting - 1 }));
}

const find = ({ recorded }: Run, name: string): Recorded => {
  const found = recorded.find((one) => one.name === name);
  assert.ok(found !== undefined, `there is no ${name}`);
  return found;
};

describe('testInVm', () => {
  let run: Run;
  let direct: Run;
  before(async () => {
    direct = await runTests('all-kinds.js');
    run = await runTests('outer.js', {
      DMABUF_TEST_FILES_OF_GUESTS: 'all-kinds.js,dies.js,exits.js;panics.js',
    });
  });

  it('reports the tests of a file as they report themselves: names, nesting, places, skip, todo, errors', () => {
    assert.ok(direct.recorded.length > 20);
    assert.deepEqual(within(run, 'all-kinds.js'), direct.recorded);
  });

  it('fails where a test in a guest has failed', () => {
    assert.equal(find(run, 'all-kinds.js').outcome, 'fail');
    assert.match(find(run, 'all-kinds.js').error ?? '', /^3 subtests failed$/);
    assert.equal(run.status, 1);
  });

  it('passes on what the tests write and remark', async () => {
    const { release } = await findKernel('stable', { progress: () => {} });
    assert.match(run.output, /^on standard output$/m);
    assert.ok(run.diagnostics.includes('a remark'));
    assert.ok(run.diagnostics.includes(`release ${release}`));
    assert.ok(run.diagnostics.includes('gc is function'), 'nodeOptions are not those of the files');
    assert.equal(run.diagnostics.filter((message) => /^tests \d/.test(message)).length, 1, 'two summaries');
  });

  it('fails the test during which a file dies, with the last words, and goes on with the next file', () => {
    assert.equal(find(run, 'passes before').outcome, 'pass');
    const { outcome, error = '', place } = find(run, 'dies');
    assert.equal(outcome, 'fail');
    assert.match(
      error,
      /had not ended when its file ended with status 139 \(SIGSEGV\)\. It wrote last:\n.*\| the last words$/m,
    );
    assert.match(place, /dies\.js:\d+:\d+$/);
    assert.equal(find(run, 'ends the process').outcome, 'fail');
  });

  it('fails a test that a file ends before, with a status of 0', () => {
    assert.match(
      find(run, 'ends the process').error ?? '',
      /had not ended when its file ended with status 0/,
    );
  });

  it("fails the test during which the guest's kernel crashes, and says what the kernel said", () => {
    const { error = '', outcome } = find(run, 'crashes the kernel');
    assert.equal(outcome, 'fail');
    assert.match(
      error,
      /had not ended when its file was cut off: ERR_DMABUF_VM_PANIC: .*sysrq triggered crash/,
    );
    assert.match(error, /\| before the crash/);
    assert.match(find(run, 'panics.js').error ?? '', /^1 subtest failed$/);
  });
});

describe('test files that have themselves run in guests', () => {
  it('are the example', async () => {
    const { recorded, status } = await runTests('../../../examples/kernel.test.js', { KERNELS: 'stable' });
    const names = ['keeps what is written to it', 'has the name that it was given', 'a buffer'];
    assert.deepEqual(
      recorded.map(({ name, outcome, nesting }) => [outcome, nesting, name]),
      [
        ['pass', 3, names[0]],
        ['pass', 3, names[1]],
        ['pass', 2, names[2]],
        ['pass', 1, join(packageRoot, 'dist/examples/kernel.test.js')],
        ['pass', 0, 'on kernel stable'],
      ],
    );
    assert.equal(status, 0);
  });

  it('are the one of docs/vm.md', async () => {
    const block = blocksIn(textOf('docs/vm.md'), 'docs/vm.md').find(({ code }) => code.includes('testInVm('));
    const { project } = installCopy();
    try {
      writeFileSync(join(project, 'package.json'), '{ "type": "module" }');
      writeFileSync(join(project, 'kernel.test.js'), block?.code ?? '');
      const { recorded, status } = await runTests(join(project, 'kernel.test.js'));
      assert.deepEqual(
        recorded.map(({ name, outcome, place }) => [outcome, name, place.replace(/:\d+$/, '')]),
        [
          ['pass', 'a buffer has the name that it was given', `${join(project, 'kernel.test.js')}:10`],
          ['pass', join(project, 'kernel.test.js'), `${join(project, 'kernel.test.js')}:1`],
          ['pass', 'on a real kernel', `${join(project, 'kernel.test.js')}:8`],
        ],
      );
      assert.equal(status, 0);
    } finally {
      rmSync(project, { recursive: true });
    }
  });
});
