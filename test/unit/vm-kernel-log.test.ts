import assert from 'node:assert/strict';
import { PassThrough, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { beginsSplat, KernelLog } from '../../lib/vm/kernel-log.js';

const END = 'dmabuf-vm end';

/** Records as the kernel numbers them, all its own, one millisecond apart. */
function records(...texts: string[]): Buffer {
  return Buffer.from(texts.map((line, number) => `4,${number},${number * 1000},-;${line}\n`).join(''));
}

/** What a sink receives of records and of the console. */
async function written(kmsg: Buffer, console = ''): Promise<string[]> {
  const sink = new PassThrough();
  const log = new KernelLog(END, sink);
  log.addRecords(kmsg);
  log.addConsole(Buffer.from(console));
  await log.close();
  sink.end();
  return (await text(sink)).split('\n').slice(0, -1);
}

function splatsOf(...texts: string[]): { title: string; text: string }[] {
  const log = new KernelLog(END, undefined);
  log.addRecords(records(...texts));
  return log.splats;
}

describe("the kernel's log", () => {
  it('is written as dmesg prints it', async () => {
    const kmsg = Buffer.from(
      '6,0,0,-;Linux version 7.3\n4,1,1234567,-,caller=T1;vgem: loaded\n SUBSYSTEM=drm\n DEVICE=c226:0\n',
    );
    assert.deepEqual(await written(kmsg), [
      '[    0.000000] Linux version 7.3',
      '[    1.234567] vgem: loaded',
    ]);
  });

  it('has records of several lines, and bytes that are no text', async () => {
    assert.deepEqual(await written(records('one\\x0atwo', 'caf\\xc3\\xa9 \\x1b[31m')), [
      '[    0.000000] one',
      '[    0.000000] two',
      '[    0.001000] café \\x1b[31m',
    ]);
  });

  it('is the same in whatever parts it comes', async () => {
    const all = Buffer.concat([records('a', 'WARNING: b', 'c'), Buffer.from('4,3,3000,-;d\n')]);
    const whole = await written(all);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: all.length })), async (cuts) => {
        const sink = new PassThrough();
        const log = new KernelLog(END, sink);
        const ends = [...cuts.sort((a, b) => a - b), all.length];
        for (const [index, end] of ends.entries()) log.addRecords(all.subarray(ends[index - 1] ?? 0, end));
        await log.close();
        sink.end();
        assert.deepEqual((await text(sink)).split('\n').slice(0, -1), whole);
        assert.equal(log.splats.length, 1);
      }),
    );
  });

  it('has each record once when it is read from the beginning again, and says what was lost', async () => {
    const kmsg = Buffer.concat([records('a', 'b'), records('a', 'b', 'c'), Buffer.from('4,9,9000,-;d\n')]);
    assert.deepEqual(await written(kmsg), [
      '[    0.000000] a',
      '[    0.001000] b',
      '[    0.002000] c',
      '** 6 messages are lost: they came faster than they could be read **',
      '[    0.009000] d',
    ]);
  });

  it('says what was lost before anybody could read it, of a boot with much to say', async () => {
    assert.deepEqual(await written(Buffer.from('4,7,9000,-;a\n')), [
      '** 7 messages are lost: they came faster than they could be read **',
      '[    0.009000] a',
    ]);
  });

  it('ends where the guest says so, with a line that is not part of it', async () => {
    const log = new KernelLog(END, undefined);
    let ended = false;
    void log.ended.then(() => {
      ended = true;
    });
    log.addRecords(records('a'));
    await Promise.resolve();
    assert.equal(ended, false);
    log.addRecords(Buffer.from(`14,1,1000,-;${END}\n`));
    await log.ended;
    assert.equal(log.text.includes(END), false);
  });

  it('has what only the console has, such as a panic, at its end', async () => {
    const console =
      'early words\r\n[    0.000000] a\r\n[    0.001000][    T1] b \r\n[    0.002000] Kernel panic - not syncing: x\r\n';
    assert.deepEqual(await written(records('a', 'b'), console), [
      '[    0.000000] a',
      '[    0.001000] b',
      'early words',
      '[    0.002000] Kernel panic - not syncing: x',
    ]);
  });

  it('goes on when it cannot be written, and tells once', async () => {
    const told: string[] = [];
    const sink = new Writable({ write: (_chunk, _encoding, done) => done(new Error('full')) });
    const log = new KernelLog(END, sink, ({ message }) => told.push(message));
    log.addRecords(records('a', 'WARNING: b'));
    await log.close();
    log.addRecords(records('a', 'b', 'c'));
    await log.close();
    assert.deepEqual(told, ['full']);
    assert.equal(log.splats.length, 1);
  });

  it('shows its last lines, or what begins with a fault', () => {
    const log = new KernelLog(END, undefined);
    log.addRecords(records(...Array.from({ length: 100 }, (_, index) => `line ${index}`)));
    log.addConsole(Buffer.from('[    9.000000] Oops: int3\r\n[    9.000001] registers\r\n'));
    assert.equal(log.tail().split('\n').length, 25);
    assert.match(log.tail(), /line 99\n\[ {4}9\.000000\] Oops: int3\n.*registers$/);
    assert.match(log.tail({ from: /Oops: / }), /^\[ {4}9\.000000\] Oops: int3\n.*registers$/);
  });
});

describe('a fault that the kernel finds of its own', () => {
  for (const line of [
    'WARNING: CPU: 0 PID: 0 at kernel/rcu/tree.c:5615 rcu_init_geometry.cold+0x24/0xdb',
    'WARNING: kernel/rcu/tree.c:4887 at rcu_init_geometry.cold+0x24/0x135, CPU#0: swapper/0/0',
    'WARNING: possible circular locking dependency detected',
    'WARNING: suspicious RCU usage',
    'BUG: KASAN: slab-use-after-free in dma_buf_release+0x12/0x34',
    'BUG: KFENCE: out-of-bounds read in f+0x1/0x2',
    'BUG: kernel NULL pointer dereference, address: 0000000000000030',
    'BUG: sleeping function called from invalid context at kernel/locking/mutex.c:283',
    'BUG: Bad page state in process node  pfn:12345',
    'BUG kmalloc-64 (Tainted: G    B             ): Poison overwritten',
    'watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [node:123]',
    'kernel BUG at mm/slub.c:4000!',
    'Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI',
    'Oops: general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP NOPTI',
    'general protection fault, probably for non-canonical address 0xdead: 0000 [#1] PREEMPT SMP NOPTI',
    'Unable to handle kernel paging request at virtual address ffff8000deadbeef',
    'Internal error: Oops: 0000000096000007 [#1] SMP',
    'Kernel panic - not syncing: Attempted to kill init!',
    'UBSAN: array-index-out-of-bounds in drivers/x.c:1:2',
    'list_add corruption. prev->next should be next',
    'refcount_t: underflow; use-after-free.',
    'DMA-API: device driver has pending DMA allocations while released from device [count=1], leak',
    'kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)',
    'INFO: task node:123 blocked for more than 120 seconds.',
    'INFO: trying to register non-static key.',
    'rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:',
  ]) {
    it(`is ${line}`, () => assert.equal(beginsSplat(line), true));
  }

  for (const line of [
    'PCI: Using host bridge windows from ACPI; if necessary, use "pci=nocrs" and report a bug',
    'Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on',
    'Warning: unable to open an initial console.',
    'Call Trace:',
    'Out of memory: Killed process 123 (tail) total-vm:1kB',
    'Memory cgroup out of memory: Killed process 123 (tail)',
    'debug: unmapping init memory',
  ]) {
    it(`is not ${line}`, () => assert.equal(beginsSplat(line), false));
  }

  it('is told with the lines after it, up to its end', () => {
    const found = splatsOf(
      'before',
      '------------[ cut here ]------------',
      'WARNING: x',
      'RIP: y',
      '---[ end trace 0 ]---',
      'after',
    );
    assert.deepEqual(found, [
      {
        title: 'WARNING: x',
        text: '[    0.002000] WARNING: x\n[    0.003000] RIP: y\n[    0.004000] ---[ end trace 0 ]---',
      },
    ]);
  });

  it('is one when the kernel has several lines about it, and two when it says so', () => {
    assert.deepEqual(
      splatsOf('refcount_t: underflow', 'WARNING: x', 'BUG: y', '-[ cut here ]-', 'WARNING: z').map(
        ({ title }) => title,
      ),
      ['refcount_t: underflow', 'WARNING: z'],
    );
  });

  it('is the kernel itself: what a program writes to its log is none', () => {
    const log = new KernelLog(END, undefined);
    log.addRecords(Buffer.from('12,0,0,-;BUG: not mine\n'));
    assert.deepEqual(log.splats, []);
  });

  it('is counted up to a hundred times', () => {
    assert.equal(
      splatsOf(...Array.from({ length: 300 }, () => ['-[ cut here ]-', 'WARNING: x']).flat()).length,
      100,
    );
  });
});
