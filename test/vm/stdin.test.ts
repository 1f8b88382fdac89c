// What a command in a guest reads from its standard input.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import { packageRoot } from '../support/programs.js';
import { capture } from './capture.js';

const main = join(packageRoot, 'dist/package/cli.js');

describe('the standard input of a command', { concurrency: 2 }, () => {
  it('arrives byte for byte, to its end', async () => {
    // More than all buffers between host and guest hold together.
    const blob = randomBytes(4 * 1024 * 1024);
    const pieces = [blob.subarray(0, 1), blob.subarray(1, 3_000_000), blob.subarray(3_000_000)];
    const { exitCode, stdout, stderr } = await capture({
      kernel: 'stable',
      command: ['cat', '-', '/dev/stdin'],
      stdin: Readable.from(pieces, { objectMode: false }),
    });
    assert.equal(stderr, '');
    assert.ok(stdout.equals(blob));
    assert.equal(exitCode, 0);
  });

  it('is that of the runner, and keeps nobody waiting who has read enough', async () => {
    const runner = spawn(process.execPath, [main, 'vm', '--kernel', 'stable', '--', 'head', '-n', '2'], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    runner.stdin.on('error', () => {});
    runner.stdin.write('one\ntwo\nthree\n');
    // It stays open.
    const [stdout, stderr, [status]] = await Promise.all([
      text(runner.stdout),
      text(runner.stderr),
      once(runner, 'close'),
    ]);
    assert.equal(stdout, 'one\ntwo\n', stderr);
    assert.equal(status, 0);
  });

  it('that fails ends the guest', async () => {
    const stdin = new Readable({
      read() {
        this.destroy(new Error('no such thing'));
      },
    });
    await assert.rejects(capture({ kernel: 'stable', command: ['cat'], stdin }), {
      code: 'ERR_DMABUF_VM_INPUT',
      message: /input cannot be read: no such thing/,
    });
  });

  it('is empty in a guest of a function, unless something is given', async () => {
    const { stdout } = await capture({
      kernel: 'stable',
      command: ['sh', '-c', 'wc -c; readlink /proc/self/fd/0'],
    });
    assert.equal(stdout.toString(), '0\n/dev/null\n');
  });
});
