// How npm test judges a guest's kernel (scripts/kernel-log.mjs). What a fault is, the runner says: vm-kernel-log.test.ts.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Splat } from '../../lib/vm/index.js';
import { packageRoot } from '../support/programs.js';

interface Fault {
  what: string;
  file?: string;
  text: string;
}
const { faultsIn } = (await import(join(packageRoot, 'scripts/kernel-log.mjs'))) as {
  faultsIn(log: string, splats: readonly Splat[]): Fault[];
};

const end = '[   99.900000] dmabuf: the kernel was looked at';
const log = (...lines: string[]): string => [...lines, end, ''].join('\n');
const files = [
  '[    5.000000] dmabuf: test file kernel/heaps.test.js',
  '[    9.000000] dmabuf: test file kernel/memory/pool.test.js',
];
const [title, begin, trace] = [
  'BUG: KASAN: slab-use-after-free in dma_buf_poll+0x11/0x20',
  '[   12.300000] BUG: KASAN: slab-use-after-free in dma_buf_poll+0x11/0x20',
  '[   12.300100] Call Trace:',
];
const splat = { title, text: `${begin}\n${trace}` };
const tainted = '[   99.800000] dmabuf: fault: the kernel is tainted by a warning (512)';

test('a report of the kernel is told with the test file that ran', () => {
  const later = '[   13.000000] dmabuf: test file kernel/zero.test.js';
  const all = faultsIn(log(...files, begin, trace, later, tainted), [splat]);
  assert.deepEqual(all, [{ what: title, file: 'kernel/memory/pool.test.js', text: splat.text }]);
});

test('a report of the boot is told without one', () => {
  assert.deepEqual(faultsIn(log(begin, trace, ...files), [splat]), [
    { what: title, file: undefined, text: splat.text },
  ]);
});

test('a kernel that is tainted has had a fault, whether it has reported it or not', () => {
  assert.deepEqual(
    faultsIn(log(...files, tainted), []).map(({ what }) => what),
    ['the kernel is tainted by a warning (512)'],
  );
});

test('memory that nobody points to is a fault, beside a report too, with its stack', () => {
  const leak = ['[   99.700000] dmabuf: fault: unreferenced object 0xffff8880 (size 64):', trace];
  const [, fault, ...more] = faultsIn(log(...files, begin, trace, ...leak), [splat]);
  assert.equal(fault?.what, 'unreferenced object 0xffff8880 (size 64):');
  assert.match(fault?.text ?? '', /Call Trace:/);
  assert.deepEqual(more, []);
});

test('a log without a fault is none, and one that is cut off is no proof', () => {
  assert.deepEqual(faultsIn(log(...files), []), []);
  assert.match(faultsIn(files.join('\n'), [])[0]?.what ?? '', /nobody has looked/);
});
