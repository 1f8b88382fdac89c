import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { after, describe, it } from 'node:test';
import { runOnKernels, type VmError } from '../../lib/vm/index.js';
import { MountPoint } from '../support/mount-point.js';
import { type Captured, capture } from './capture.js';

const base = mkdtempSync(join(tmpdir(), 'dmabuf test,output-'));
after(() => rmSync(base, { recursive: true }));

/** Where the folder is found, and in it all kinds of files. */
const SCRIPT = `
cd "$DMABUF_VM_OUTPUT" && [ "$(ls -A)" = "" ] && [ "$PWD" = "$1" ] || exit 99
mkdir -p sub/deeper
echo report > sub/deeper/report
chmod 750 sub
printf '#!/bin/sh' > program
chmod 6755 program
mv sub/deeper moved
ln -s moved/report latest
ln -s / out
ln -s ../../outside up
echo written > through; rm through; ln -s "$2" through; echo changed > through
mknod null c 1 3
mkfifo fifo
printf x > "$(printf '\\377')"
ls -ld null program latest | cut -c1-10
exit 3
`;

describe('what a command writes into the output folder', { concurrency: 2 }, () => {
  it('comes back when it fails, as files and folders, and never to another place', async () => {
    const output = join(base, 'results');
    const outside = join(base, 'outside');
    mkdirSync(output);
    writeFileSync(join(output, 'before'), 'kept');
    writeFileSync(outside, 'untouched');
    const told: string[] = [];
    const { exitCode, stdout, stderr } = await capture({
      command: ['sh', '-c', SCRIPT, 'sh', output, outside],
      output,
      cwd: base,
      progress: (message) => told.push(message),
    });
    assert.equal(exitCode, 3, stderr);
    assert.deepEqual(stdout.toString().trim().split('\n'), ['lrwxrwxrwx', 'crw-r--r--', '-rwsr-sr-x']);
    const names = readdirSync(output, { recursive: true, encoding: 'utf8' });
    assert.deepEqual(names.sort(), [
      'before',
      'kernel.log',
      'latest',
      'moved',
      'moved/report',
      'program',
      'sub',
      '\ufffd',
    ]);
    assert.equal(readFileSync(join(output, 'latest'), 'utf8'), 'report\n');
    assert.equal(lstatSync(join(output, 'program')).mode & 0o7777, 0o755);
    assert.equal(lstatSync(join(output, 'sub')).mode & 0o7777, 0o750);
    assert.equal(readFileSync(outside, 'utf8'), 'untouched');
    assert.match(told.join('\n'), /left out: .*fifo, .*null, .*out, .*through, .*up$/m);
  });

  it('comes back when the time limit comes', async () => {
    const output = join(base, 'late');
    const run = (timeout: number): Promise<Captured> =>
      capture({
        command: ['sh', '-c', 'echo begun > "$DMABUF_VM_OUTPUT/file"; exec sleep 100000'],
        output,
        timeout,
      });
    // On a busy machine, the limit may come before the command.
    for (let timeout = 8000; ; timeout *= 2) {
      const error = await run(timeout).then(
        () => assert.fail('it has ended'),
        (reason: VmError) => reason,
      );
      assert.equal(error.code, 'ETIMEDOUT');
      if (existsSync(join(output, 'file'))) break;
    }
    assert.deepEqual(readdirSync(output).sort(), ['file', 'kernel.log']);
    assert.equal(readFileSync(join(output, 'file'), 'utf8'), 'begun\n');
  });

  it('is in a folder for each kernel when there are several', async () => {
    const output = join(base, 'kernels');
    const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
    const runs = await runOnKernels({
      command: ['sh', '-c', 'uname -r > "$DMABUF_VM_OUTPUT/release"; [ "$DMABUF_VM_OUTPUT" = "$0" ]', output],
      kernels: ['stable', 'newest'],
      output,
      stdout: nowhere,
      stderr: nowhere,
    });
    for (const { kernel, release, exitCode } of runs) {
      assert.equal(exitCode, 0);
      assert.equal(readFileSync(join(output, kernel, 'release'), 'utf8'), `${release}\n`);
    }
    assert.deepEqual(readdirSync(output).sort(), ['newest', 'stable']);
  });

  it('is as large as the folder can hold, and the command and the caller are told when it is full', {
    skip: process.getuid?.() === 0 ? false : 'mounting takes root',
  }, async () => {
    const place = new MountPoint();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', place.path]);
    try {
      const told: string[] = [];
      const { exitCode, stderr } = await capture({
        command: ['sh', '-c', 'head -c 3000000 /dev/zero > "$DMABUF_VM_OUTPUT/large"'],
        output: place.path,
        progress: (message) => told.push(message),
      });
      assert.equal(exitCode, 1);
      assert.match(stderr, /No space left on device/);
      assert.ok(
        told.includes(
          `the file system of ${place.path} is full: what the command wrote there may be cut off`,
        ),
      );
      assert.ok(lstatSync(join(place.path, 'large')).size > 500_000);
    } finally {
      place.remove();
    }
  });
});
