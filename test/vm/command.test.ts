import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isRunning } from '../support/running.js';

const MAIN = fileURLToPath(new URL('../../package/cli.js', import.meta.url));

const temporary = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
after(() => rmSync(temporary, { recursive: true }));

const ENV = { ...process.env, TMPDIR: temporary, FRUIT: 'a pear', TOKEN: 'secret' };

function dmabufVm(...args: string[]): ChildProcess {
  return spawn(process.execPath, [MAIN, 'vm', '--kernel', 'stable', ...args], {
    env: ENV,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Starts a command that never ends, and waits until it runs. */
async function running(): Promise<{ runner: ChildProcess; qemu: number }> {
  const runner = dmabufVm('--', 'sh', '-c', 'echo ready; exec sleep 100000');
  const [said] = (await once(runner.stdout as NonNullable<typeof runner.stdout>, 'data')) as [Buffer];
  assert.equal(said.toString(), 'ready\n');
  const children = readFileSync(`/proc/${runner.pid}/task/${runner.pid}/children`, 'utf8');
  return { runner, qemu: Number(children) };
}

describe('dmabuf vm', { concurrency: 2 }, () => {
  it("ends with the command's status and keeps its words apart from the runner's", async () => {
    const runner = dmabufVm('--', 'sh', '-c', 'echo out; echo err >&2; kill -SEGV $$');
    const [stdout, stderr, [status]] = await Promise.all([
      text(runner.stdout as NodeJS.ReadableStream),
      text(runner.stderr as NodeJS.ReadableStream),
      once(runner, 'close'),
    ]);
    assert.equal(stdout, 'out\n', `status ${status}, and on stderr: ${stderr}`);
    assert.deepEqual(
      stderr.split('\n').filter((line) => !line.startsWith('dmabuf vm: ')),
      ['err', ''],
    );
    assert.equal(status, 139);
  });

  it('gives the command the variables that are asked for, and of the others those that every command needs', async () => {
    const runner = dmabufVm('--env', 'FRUIT', '--env', 'WORDS=two words', '--env', 'NO_SUCH', '--', 'env');
    const [stdout, stderr] = await Promise.all([
      text(runner.stdout as NodeJS.ReadableStream),
      text(runner.stderr as NodeJS.ReadableStream),
      once(runner, 'close'),
    ]);
    const all = new Map(stdout.split('\n').map((line) => line.split(/=(.*)/, 2) as [string, string]));
    assert.equal(all.get('FRUIT'), 'a pear', stderr);
    assert.equal(all.get('WORDS'), 'two words');
    assert.equal(all.get('PATH'), process.env.PATH);
    assert.equal(all.get('USER'), 'root');
    assert.deepEqual(
      ['TMPDIR', 'TOKEN', 'NODE_EXTRA_CA_CERTS', 'NODE_TEST_CONTEXT', 'NO_SUCH'].filter((name) =>
        all.has(name),
      ),
      [],
    );
    assert.match(stderr, /^dmabuf vm: --env NO_SUCH: it is not set here/m);
  });

  it('ends with 124 when the time limit is reached', async () => {
    const [status] = await once(dmabufVm('--timeout', '1', '--', 'true'), 'close');
    assert.equal(status, 124);
  });

  it('ends with 125 and says what is wrong when it cannot run the guest', async () => {
    const runner = dmabufVm('--modules', 'no_such_module', '--', 'true');
    const [stderr, [status]] = await Promise.all([
      text(runner.stderr as NodeJS.ReadableStream),
      once(runner, 'close'),
    ]);
    assert.match(stderr, /no module no_such_module/);
    assert.equal(status, 125);
  });

  for (const [signal, status] of [
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const) {
    it(`takes QEMU and its files with it on ${signal}, and ends with ${status}`, async () => {
      const { runner, qemu } = await running();
      runner.kill(signal);
      assert.deepEqual(await once(runner, 'close'), [status, null]);
      assert.equal(isRunning(qemu), false);
    });
  }

  it('takes QEMU with it even when it is killed', async () => {
    const { runner, qemu } = await running();
    assert.equal(isRunning(qemu), true);
    runner.kill('SIGKILL');
    await once(runner, 'close');
    // QEMU is nobody's child now, so there is no event to wait for; the test's own time limit is the limit
    while (isRunning(qemu)) await delay(10);
  });

  it('leaves no temporary files, however it ends', () => {
    assert.deepEqual(readdirSync(temporary), []);
  });
});
