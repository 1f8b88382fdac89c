// One command on several kernels at once.

import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import { findKernel } from '../../lib/vm/kernels.js';
import { packageRoot } from '../support/programs.js';

function dmabufVm(...args: string[]): ChildProcessByStdio<null, Readable, Readable> {
  return spawn(process.execPath, ['dist/package/cli.js', 'vm', ...args], {
    cwd: packageRoot,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

describe('dmabuf vm with several kernels', () => {
  it('keeps their lines apart, and ends with a table and the status of the first that failed', async () => {
    // Parts of lines, many of them, and a last line that is not ended.
    const script = `
      for n in 1 2 3 4 5 6 7 8 9; do printf 'line '; printf "$n "; echo "of $(uname -r)"; done
      echo error >&2
      printf rest
      case $(uname -r) in 6.*) exit 3 ;; *) exit 0 ;; esac`;
    const runner = dmabufVm('--kernel', '/nowhere/kernel,stable,newest', '--', 'sh', '-c', script);
    const [stdout, stderr, [status]] = await Promise.all([
      text(runner.stdout),
      text(runner.stderr),
      once(runner, 'close'),
    ]);
    for (const [kernel, code, result] of [
      ['stable', 3, 'failed'],
      ['newest', 0, 'passed'],
    ] as const) {
      const { release } = await findKernel(kernel, { progress: () => {} });
      const prefix = `${kernel.padEnd('/nowhere/kernel'.length)} | `;
      const lines = stdout.split('\n').filter((line) => line.startsWith(prefix));
      const expected = Array.from({ length: 9 }, (_, index) => `line ${index + 1} of ${release}`);
      assert.deepEqual(
        lines.map((line) => line.slice(prefix.length)),
        [...expected, 'rest'],
        stderr,
      );
      assert.ok(stderr.split('\n').includes(`${prefix}error`), stderr);
      const row = new RegExp(
        `^${kernel} +${release.replaceAll('+', '\\+')} +${code} +\\d+\\.\\d +${result}$`,
        'm',
      );
      assert.match(stderr, row);
    }
    assert.equal(stdout.trimEnd().split('\n').length, 20, 'there is a line of nobody');
    assert.match(
      stderr,
      /^dmabuf vm: \/nowhere\/kernel: ERR_DMABUF_VM_KERNEL: the kernel \/nowhere\/kernel does not exist/m,
    );
    assert.match(stderr, /^\/nowhere\/kernel +- +125 +\d+\.\d +ERR_DMABUF_VM_KERNEL$/m);
    assert.equal(status, 125);
  });

  it('runs them side by side, and leaves none behind at Ctrl-C', async () => {
    const runner = dmabufVm(
      '--jobs',
      '2',
      '--kernel',
      'stable,newest',
      '--',
      'sh',
      '-c',
      'echo ready; exec sleep 100000',
    );
    const ready: string[] = [];
    for await (const line of createInterface({ input: runner.stdout })) {
      ready.push(line);
      if (ready.length === 2) break;
    }
    assert.deepEqual(ready.sort(), ['newest | ready', 'stable | ready']);
    const children = readFileSync(`/proc/${runner.pid}/task/${runner.pid}/children`, 'utf8');
    const guests = children.trim().split(' ').map(Number);
    assert.equal(guests.length, 2);
    runner.kill('SIGINT');
    assert.deepEqual(await once(runner, 'close'), [130, null]);
    for (const pid of guests) {
      assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
    }
  });
});
