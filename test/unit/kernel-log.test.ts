// What scripts/kernel-log.mjs takes for a fault of the kernel's. The lines are those of real kernels.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../support/programs.js';

interface Fault {
  what: string;
  file?: string;
  text: string;
}
const { faultsIn } = (await import(join(packageRoot, 'scripts/kernel-log.mjs'))) as {
  faultsIn(text: string): Fault[];
};

const start = '[    3.1] dmabuf: the command starts\r\n';
const end =
  '[   99.9] dmabuf: the command has ended, tainted 12288  debug_locks:                       1\r\n';
const log = (...lines: string[]): string => start + lines.map((line) => `${line}\r\n`).join('') + end;

const reports: Readonly<Record<string, string>> = {
  'KASAN: a use after free': '[   12.3] BUG: KASAN: slab-use-after-free in dma_buf_poll+0x11/0x20',
  'KFENCE: out of bounds': '[   12.3] BUG: KFENCE: out-of-bounds read in test_read+0x10/0x20',
  'slab_debug: a red zone': '[   12.3] BUG kmalloc-64 (Tainted: G    OE      ): Left Redzone overwritten',
  'a warning': '[   12.3] WARNING: CPU: 1 PID: 88 at drivers/dma-buf/dma-buf.c:99 dma_buf_release+0x1/0x2',
  'lockdep: recursion': '[   12.3] WARNING: possible recursive locking detected',
  'lockdep: an order': '[   12.3] WARNING: possible circular locking dependency detected',
  'RCU: usage': '[   12.3] WARNING: suspicious RCU usage',
  'RCU: a stall': '[   42.3] rcu: INFO: rcu_preempt self-detected stall on CPU',
  'a task that hangs': '[  480.3] INFO: task node:88 blocked for more than 480 seconds.',
  'sleeping while atomic':
    '[   12.3] BUG: sleeping function called from invalid context at kernel/locking/mutex.c:1',
  'a list': '[   12.3] list_del corruption. prev->next should be ffff, but was fffe',
  'kmemleak: memory that nobody points to': '[   12.3] dmabuf: unreferenced object 0xffff8880 (size 64):',
  'an oops': '[   12.3] Oops: general protection fault, probably for non-canonical address 0xdead: 0000',
};

for (const [name, line] of Object.entries(reports)) {
  test(`${name} is a fault`, () => {
    const [fault, ...more] = faultsIn(
      log('[    5.0] dmabuf: test file kernel/pool.test.js', line, 'Call Trace:'),
    );
    assert.equal(fault?.what, line.slice(line.indexOf(']') + 2));
    assert.equal(fault?.file, 'kernel/pool.test.js');
    assert.match(fault?.text ?? '', /Call Trace:/);
    assert.deepEqual(more, []);
  });
}

test('what tests bring about is none', () => {
  const harmless = log(
    '[    5.0] dmabuf: test file kernel/memory-guard.test.js',
    '[    6.0] node invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO), order=0',
    '[    6.1] Call Trace:',
    '[    6.2] Memory cgroup out of memory: Killed process 99 (node) total-vm:1kB',
    '[    7.0] dmabuf_test: loading out-of-tree module taints kernel.',
    "[    8.0] warning: `node' uses wireless extensions which will stop working for Wi-Fi 7 hardware",
  );
  assert.deepEqual(faultsIn(harmless), []);
});

test('two faults are two, and the lines of one are one', () => {
  const lines = Array.from({ length: 20 }, (_, at) => `[   13.0]  function_${at}+0x1/0x2`);
  const faults = faultsIn(
    log(
      '[   12.3] ------------[ cut here ]------------',
      '[   12.3] WARNING: CPU: 0 PID: 1 at mm/a.c:1 a+0x1/0x2',
      ...lines,
      '[   14.0] BUG: KASAN: slab-out-of-bounds in b+0x1/0x2',
    ),
  );
  assert.deepEqual(
    faults.map(({ what }) => what),
    ['a warning', 'BUG: KASAN: slab-out-of-bounds in b+0x1/0x2'],
  );
});

test('a kernel that is tainted by a warning, or whose lockdep is off, has had a fault', () => {
  assert.match(faultsIn(log().replace('12288', String(12288 + 512)))[0]?.what ?? '', /tainted by a warning/);
  assert.match(faultsIn(log().replace(/ 1\r/, ' 0\r'))[0]?.what ?? '', /lockdep/);
  assert.deepEqual(faultsIn(log()), []);
});

test('a log that is cut off is no proof', () => {
  assert.match(faultsIn(start)[0]?.what ?? '', /not whole/);
});

test('of a boot that crashed and was tried again, only the second counts', () => {
  const crash =
    '[    0.5] Oops: int3: 0000 [#1] PREEMPT SMP\r\n[    0.6] ---[ end Kernel panic - not syncing: Fatal exception ]---\r\n';
  assert.deepEqual(faultsIn(crash + log()), []);
  assert.equal(faultsIn(log() + crash).length, 1);
});
