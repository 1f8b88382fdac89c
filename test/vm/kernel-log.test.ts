import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { Splat } from '../../lib/vm/index.js';
import { packageRoot } from '../support/programs.js';
import { capture } from './capture.js';

const base = mkdtempSync(join(tmpdir(), 'dmabuf-kernel-log-'));
after(() => rmSync(base, { recursive: true }));

/** A value that the kernel refuses with a WARN_ON(), before its console knows more than what is serious. */
const warned = 'rcutree.rcu_fanout_leaf=1';

describe("the log of a guest's kernel", () => {
  it('comes whole into a file, and a fault in it is told and makes a success a failure when that is asked for', () => {
    const file = join(base, 'log');
    const args = ['vm', '--append', warned, '--kernel-log', file, '--fail-on-splat', '--'];
    const main = join(packageRoot, 'dist/package/cli.js');
    const command = ['sh', '-c', 'echo "<6>a line of its own" >/dev/kmsg'];
    const { status, stderr } = spawnSync(process.execPath, [main, ...args, ...command], { encoding: 'utf8' });
    assert.match(stderr, /^dmabuf vm: the guest's kernel has found a fault: WARNING: .*rcu_init_geometry/m);
    assert.equal(status, 125);
    const lines = readFileSync(file, 'utf8').split('\n');
    assert.match(lines[0] ?? '', /^\[ {4}0\.000000\] Linux version /);
    assert.ok(lines.some((line) => /WARNING: .*rcu_init_geometry/.test(line)));
    assert.ok(lines.some((line) => /^\[ +\d+\.\d{6}\] a line of its own$/.test(line)));
  });

  it('leaves the status as it is, and is in the output folder, when nothing else is asked for', async () => {
    const output = join(base, 'output');
    const { exitCode, splats } = await capture({
      command: ['true'],
      kernel: 'stable',
      kernelArguments: [warned],
      output,
    });
    assert.equal(exitCode, 0);
    assert.equal(splats.length, 1);
    assert.match(splats[0]?.title ?? '', /^WARNING: .*rcu_init_geometry/);
    assert.match(splats[0]?.text ?? '', /\n.*Call Trace:\n/);
    assert.deepEqual(readdirSync(output), ['kernel.log']);
    assert.match(readFileSync(join(output, 'kernel.log'), 'utf8'), /WARNING: .*rcu_init_geometry/);
  });

  it('has the panic that nobody could read from it any more', async () => {
    const output = join(base, 'panicked');
    const run = capture({ command: ['sh', '-c', 'echo c > /proc/sysrq-trigger'], kernel: 'stable', output });
    await assert.rejects(run, { code: 'ERR_DMABUF_VM_PANIC' });
    assert.match(
      readFileSync(join(output, 'kernel.log'), 'utf8'),
      /^\[ {4}0\.000000\] Linux version .*Kernel panic - not syncing: sysrq triggered crash\n/s,
    );
  });
});

describe('npm test', () => {
  it('looks at a kernel afterwards, since a fault may have left no report', async () => {
    const { faultsIn } = (await import(join(packageRoot, 'scripts/kernel-log.mjs'))) as {
      faultsIn(log: string, splats: readonly Splat[]): { what: string }[];
    };
    const output = join(base, 'tainted');
    // What the kernel does when it warns, without the warning.
    const command = ['sh', '-c', 'echo 544 >/proc/sys/kernel/tainted; exit 3'];
    const { exitCode, splats } = await capture({
      command: [join(packageRoot, 'scripts/in-guest.sh'), ...command],
      kernel: 'stable',
      output,
    });
    assert.equal(exitCode, 3);
    const faults = faultsIn(readFileSync(join(output, 'kernel.log'), 'utf8'), splats);
    assert.deepEqual(
      faults.map(({ what }) => what),
      ['the kernel is tainted by a bad page (544)', 'the kernel is tainted by a warning (544)'],
    );
  });

  it("fails where every test has passed and the guest's kernel has found a fault, and shows it", () => {
    const args = ['scripts/test.mjs', '--kernel', 'stable', '--append', warned, 'buffer/names.test'];
    // Who reports this file's own run has no part in that one.
    const own = /^(NODE_TEST_CONTEXT|DMABUF_TEST_FILES?)$/;
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !own.test(name)));
    const { status, stdout } = spawnSync(process.execPath, args, { cwd: packageRoot, env, encoding: 'utf8' });
    assert.match(stdout, /^ℹ fail 0$/m);
    const failures = stdout.match(/^✖ .*/gm) ?? [];
    assert.equal(failures.length, 1, stdout);
    assert.match(
      failures[0] ?? '',
      /^✖ kernel tests on stable .*: the kernel says: WARNING: .*rcu_init_geometry/,
    );
    assert.match(stdout, /^ {4}.*Call Trace:$/m);
    assert.equal(status, 1);
  });
});
