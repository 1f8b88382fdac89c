import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { runInVm } from '../../lib/vm/index.js';
import { findKernel } from '../../lib/vm/kernels.js';
import { type Captured, capture } from './capture.js';

const KERNELS = ['stable', 'newest'] as const;

/** More than all buffers between guest and host hold together. */
const BLOB_SIZE = 4 * 1024 * 1024;

/** Writes the blob to stdout, and what it sees to stderr, one `name=value` a line. */
const SCRIPT = `
cat blob
{
  echo "release=$(uname -r)"
  echo "folder=$(pwd)"
  echo "mark=$DMABUF_VM"
  echo "words=$WORDS"
  echo "heap=$([ -c /dev/dma_heap/system ] && echo yes)"
  echo "udmabuf=$([ -c /dev/udmabuf ] && echo yes)"
  echo "card=$([ -c /dev/dri/card0 ] && echo yes)"
  echo "files=$(ulimit -Hn)"
  echo "bufinfo=$(grep -c exp_name /sys/kernel/debug/dma_buf/bufinfo)"
  echo "loopback=$(cat /sys/class/net/lo/flags)"
  echo "cmdline=$(cat /proc/cmdline)"
  echo changed > here
  echo new > new
  echo "written=$(cat here new | tr '\\n' ' ')"
  echo "reopened=yes" > /dev/stderr
} >&2
# a process that outlives the command and holds its output
sleep 1000 &
exit 42
`;

describe('a command in a guest', () => {
  // the space and the quote are part of the test, and so is the place: /tmp must stay visible
  const folder = mkdtempSync(join(tmpdir(), "dmabuf test's-"));
  const blob = randomBytes(BLOB_SIZE);
  const guests = new Map<string, { result: Captured; facts: Map<string, string> }>();

  before(async () => {
    writeFileSync(join(folder, 'blob'), blob);
    writeFileSync(join(folder, 'here'), 'unchanged');
    // side by side: what two guests do at the same time must not mix
    await Promise.all(
      KERNELS.map(async (kernel) => {
        const result = await capture({
          kernel,
          command: ['sh', '-c', SCRIPT],
          modules: ['vgem'],
          kernelArguments: [`dmabuf.test=${kernel}`],
          cwd: folder,
          env: { PATH: process.env.PATH, WORDS: `two 'words' of ${kernel} $HOME` },
        });
        const lines = result.stderr.trimEnd().split('\n');
        const facts = new Map(lines.map((line) => line.split(/=(.*)/, 2) as [string, string]));
        guests.set(kernel, { result, facts });
      }),
    );
  });

  after(() => rmSync(folder, { recursive: true }));

  for (const kernel of KERNELS) {
    const fact = (name: string): string | undefined => guests.get(kernel)?.facts.get(name);
    const guest = (): Captured => guests.get(kernel)?.result as Captured;

    describe(`on kernel ${kernel}`, () => {
      it('runs on that kernel', async () => {
        assert.equal(fact('release'), (await findKernel(kernel, { progress: () => {} })).release);
      });
      it('gives its exit status', () => assert.equal(guest().exitCode, 42));
      it('has found no fault of its own', () => assert.deepEqual(guest().splats, []));
      it('has its standard output passed on byte for byte', () => assert.ok(guest().stdout.equals(blob)));
      it('has nothing but its own words on standard error', () => {
        assert.deepEqual(
          guest()
            .stderr.split('\n')
            .filter((line) => !/^(\w+=.*)?$/.test(line)),
          [],
        );
      });
      it('can open /dev/stderr again', () => assert.equal(fact('reopened'), 'yes'));
      it("starts in the caller's folder", () => assert.equal(fact('folder'), folder));
      it('gets the environment as it was given', () => {
        assert.equal(fact('words'), `two 'words' of ${kernel} $HOME`);
        assert.equal(fact('mark'), '1');
      });
      it('has a dma-buf heap', () => assert.equal(fact('heap'), 'yes'));
      it('has udmabuf', () => assert.equal(fact('udmabuf'), 'yes'));
      it('has the device of a module that was asked for', () => assert.equal(fact('card'), 'yes'));
      it('has debugfs', () => assert.equal(fact('bufinfo'), '1'));
      it('may open many files', () => assert.ok(Number(fact('files')) >= 1_048_576));
      it('has a loopback interface that is up', () => assert.equal(Number(fact('loopback')) & 1, 1));
      it('has the kernel arguments that were asked for', () => {
        assert.match(fact('cmdline') ?? '', new RegExp(`dmabuf\\.test=${kernel}$`));
      });
      it('can write anywhere', () => assert.equal(fact('written'), 'changed new '));
    });
  }

  it("leaves this machine's files as they were", () => {
    assert.equal(readFileSync(join(folder, 'here'), 'utf8'), 'unchanged');
    assert.equal(existsSync(join(folder, 'new')), false);
  });
});

describe('the output of a command that has ended', () => {
  it('is complete, however long it takes to be taken', async () => {
    // More than what is held on the way, of which the guest's queue and QEMU's socket have the last part.
    const size = 18_000_000;
    let taken = 0;
    let go = (): void => {};
    const hasWritten = new Promise<void>((resolve) => {
      go = resolve;
    });
    const stdout = new Writable({
      highWaterMark: 1,
      write(chunk: Buffer, _encoding, done) {
        taken += chunk.length;
        void hasWritten.then(() => done());
      },
    });
    const stderr = new Writable({
      write(_chunk, _encoding, done) {
        done();
        // The command has written all and ends: on a machine that is fast, its status would be here long before.
        let turns = 2000;
        const wait = setInterval(() => {
          if (--turns > 0) return;
          clearInterval(wait);
          go();
        }, 1);
      },
    });
    const script = `head -c ${size} /dev/zero; echo written >&2`;
    const command = ['sh', '-c', script];
    const { exitCode } = await runInVm({ kernel: 'stable', command, stdout, stderr });
    assert.deepEqual([exitCode, taken], [0, size]);
  });
});

describe('a guest that goes wrong', { concurrency: 2 }, () => {
  const quiet = { command: ['true'], kernel: 'stable' };

  it('says so when the kernel panics, and why', async () => {
    const run = capture({ ...quiet, command: ['sh', '-c', 'echo first; echo c > /proc/sysrq-trigger'] });
    await assert.rejects(run, {
      code: 'ERR_DMABUF_VM_PANIC',
      message:
        /panicked: sysrq triggered crash\n.*kernel said:\n.*Kernel panic.*\n.*\nAll of it: --kernel-log FILE/s,
    });
  });

  it('says so when the time limit is reached', async () => {
    await assert.rejects(capture({ ...quiet, command: ['sleep', '1000'], timeout: 1000 }), {
      code: 'ETIMEDOUT',
      message: /after 1 s/,
    });
  });

  it('gives 128 + 9 and names the process when its memory is used up', async () => {
    // tail keeps a line until it ends, and this one does not
    const result = await capture({ ...quiet, memory: 256, command: ['tail', '/dev/zero'] });
    assert.equal(result.exitCode, 137);
    assert.deepEqual(
      result.outOfMemory.map(({ name, inControlGroup }) => [name, inControlGroup]),
      [['tail', false]],
    );
  });

  it("tells a control group's limit from that of the guest's memory", async () => {
    const script =
      'cd /sys/fs/cgroup; echo +memory > cgroup.subtree_control; mkdir small; echo 32M > small/memory.max; ' +
      'echo $$ > small/cgroup.procs; exec tail /dev/zero';
    const result = await capture({ ...quiet, command: ['sh', '-c', script] });
    assert.equal(result.exitCode, 137);
    assert.deepEqual(
      result.outOfMemory.map(({ name, inControlGroup }) => [name, inControlGroup]),
      [['tail', true]],
    );
  });

  it('says so when the folder does not exist there', async () => {
    mkdirSync('/run/dmabuf-test', { recursive: true });
    try {
      await assert.rejects(capture({ ...quiet, cwd: '/run/dmabuf-test' }), {
        code: 'ERR_DMABUF_VM_OPTION',
        message: /\/run\/dmabuf-test does not exist in the guest$/,
        consoleTail: '',
      });
    } finally {
      rmSync('/run/dmabuf-test', { recursive: true });
    }
  });

  it('is not started when a module does not exist', async () => {
    await assert.rejects(runInVm({ ...quiet, modules: ['no_such_module'] }), {
      code: 'ERR_DMABUF_VM_MODULE',
    });
  });

  it('ends when the caller aborts', async () => {
    const controller = new AbortController();
    const progress = (message: string): void => {
      if (message.startsWith('booting')) setImmediate(() => controller.abort(progress));
    };
    await assert.rejects(
      capture({ ...quiet, signal: controller.signal, progress }),
      (error) => error === progress,
    );
  });
});

describe('a guest that counts instructions', () => {
  it('has one CPU and a clock that went on', async () => {
    const { stdout } = await capture({
      command: [
        process.execPath,
        '-p',
        'require("os").availableParallelism() + " " + (process.cpuUsage().user > 0)',
      ],
      kernel: 'stable',
      icount: true,
    });
    assert.equal(stdout.toString(), '1 true\n');
  });
});
