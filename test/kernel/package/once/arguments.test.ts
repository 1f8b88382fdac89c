import assert from 'node:assert/strict';
import { after } from 'node:test';
import { allocateSync, DmaHeap } from 'dmabuf';
import { type ArgumentRow, allocationRows, testArguments } from '../../../support/argument-tests.js';
import {
  badAccesses,
  badFlags,
  badFunctions,
  badOffsets,
  badOptions,
  badRequiredAccesses,
  badRequiredNames,
  badViews,
} from '../../../support/bad-values.js';
import { rejectsCode, throwsCode, unsound } from '../../../support/expect.js';
import { hasKernel, kernelTest } from '../../../support/kernel-test.js';
import { cannotRecord, recordCalls } from '../../../support/kernel-trace.js';

const heap = hasKernel ? DmaHeap.open('system') : (undefined as never);
const buffer = hasKernel ? heap.allocateSync(8192) : (undefined as never);
after(() => {
  buffer?.close();
  heap?.close();
});
const small = new Uint8Array(16);
const nothing = (): void => {};

const mapOption = (
  option: string,
  bad: ArgumentRow['bad'],
  others: Record<string, unknown> = {},
): ArgumentRow => ({
  argument: `DmaBuf.map, option ${option},`,
  bad,
  call: (value) => buffer.map(unsound({ ...others, [option]: value })),
});

const range = 'ERR_OUT_OF_RANGE';

const synchronous: ArgumentRow[] = [
  ...allocationRows(
    'DmaHeap.allocateSync',
    (size, options) => heap.allocateSync(unsound(size), unsound(options)),
    false,
  ),
  {
    argument: 'DmaBuf.setName, name,',
    bad: badRequiredNames,
    call: (name) => buffer.setName(unsound(name)),
  },
  {
    argument: 'DmaBuf.map, options,',
    bad: badOptions,
    call: (options) => buffer.map(unsound(options)),
  },
  mapOption('access', badAccesses),
  mapOption('faultOnWrite', badFlags, { access: 'read' }),
  mapOption('offset', [
    ...badOffsets,
    ['1', 1, range],
    ['half a page', 2048, range],
    ['the end', 8192, range],
    ['beyond the end', 1 << 20, range],
  ]),
  mapOption('length', [...badOffsets, ['0', 0, range], ['one byte too many', 8193, range]]),
  mapOption('length', [['one byte too many after the offset', 4097, range]], { offset: 4096 }),
  mapOption(
    'access',
    [
      ['read-write with faultOnWrite', 'read-write', range],
      ['write with faultOnWrite', 'write', range],
      ['none with faultOnWrite', undefined, range],
    ],
    { faultOnWrite: true },
  ),
  {
    argument: 'DmaBuf.cpuAccessSync, access,',
    bad: badRequiredAccesses,
    call: (access) => buffer.cpuAccessSync(unsound(access)),
  },
  {
    argument: 'DmaBuf.withCpuAccessSync, access,',
    bad: badRequiredAccesses,
    call: (access) => buffer.withCpuAccessSync(unsound(access), nothing),
  },
  {
    argument: 'DmaBuf.withCpuAccessSync, fn,',
    bad: badFunctions,
    call: (fn) => buffer.withCpuAccessSync('read', unsound(fn)),
  },
  { argument: 'DmaBuf.read, target,', bad: badViews, call: (target) => buffer.read(unsound(target)) },
  {
    argument: 'DmaBuf.read, position,',
    bad: badOffsets,
    call: (position) => buffer.read(small, unsound(position)),
  },
  { argument: 'DmaBuf.write, source,', bad: badViews, call: (source) => buffer.write(unsound(source)) },
  {
    argument: 'DmaBuf.write, position,',
    bad: [...badOffsets, ['one byte too far', 8192 - 15, range], ['beyond the end', 1 << 20, range]],
    call: (position) => buffer.write(small, unsound(position)),
  },
];

testArguments(kernelTest, [
  ...synchronous,
  ...allocationRows(
    'DmaHeap.allocate',
    (size, options) => heap.allocate(unsound(size), unsound(options)),
    true,
  ),
]);

kernelTest(
  'no bad argument reaches the kernel',
  () => {
    const calls = recordCalls(() => {
      for (const { argument, bad, call } of synchronous) {
        for (const [what, value, code] of bad) {
          try {
            throwsCode(() => call(value), code, `${argument} ${what}`);
          } catch {
            // That it is refused is for the tests above; here only what the kernel saw counts.
          }
        }
      }
    });
    assert.deepEqual(calls, []);
  },
  cannotRecord,
);

kernelTest(
  'the record of what reaches the kernel is complete',
  () => {
    const calls = recordCalls(() => {
      using other = heap.allocateSync(4096);
      other.setName('a');
      other.map();
      other.read(small);
    });
    assert.deepEqual(
      calls.map(({ kind }) => kind),
      ['heap', 'buffer', 'mmap', 'mmap', 'buffer', 'buffer'],
    );
  },
  cannotRecord,
);

const usesOfBuffer: readonly [string, (closed: ReturnType<typeof allocateSync>) => unknown][] = [
  ['info', (closed) => closed.info()],
  ['setName', (closed) => closed.setName('a')],
  ['map', (closed) => closed.map()],
  ['cpuAccessSync', (closed) => closed.cpuAccessSync('read')],
  ['withCpuAccessSync', (closed) => closed.withCpuAccessSync('read', nothing)],
  ['read', (closed) => closed.read(small)],
  ['write', (closed) => closed.write(small)],
  ['dup', (closed) => closed.dup()],
  ['release', (closed) => closed.release()],
];
for (const [name, use] of usesOfBuffer) {
  kernelTest(`DmaBuf.${name} refuses a closed buffer`, () => {
    const closed = heap.allocateSync(4096);
    closed.close();
    throwsCode(() => use(closed), 'ERR_DMABUF_CLOSED');
  });
}

kernelTest('DmaHeap.allocateSync refuses a closed heap', () => {
  const closed = DmaHeap.open('system');
  closed.close();
  throwsCode(() => closed.allocateSync(4096), 'ERR_DMABUF_CLOSED');
});

kernelTest('DmaHeap.allocate rejects on a closed heap', async () => {
  const closed = DmaHeap.open('system');
  closed.close();
  await rejectsCode(() => closed.allocate(4096), 'ERR_DMABUF_CLOSED');
});

kernelTest('a closed heap in a chain is a mistake that no other source hides', () => {
  const closed = DmaHeap.open('system');
  closed.close();
  throwsCode(() => allocateSync(4096, { from: [closed, 'system'] }), 'ERR_DMABUF_CLOSED');
});

kernelTest('a callback that is refused is not called', () => {
  let called = false;
  const fn = (): void => {
    called = true;
  };
  throwsCode(() => buffer.withCpuAccessSync(unsound('all'), fn), 'ERR_OUT_OF_RANGE');
  assert.equal(called, false);
});
