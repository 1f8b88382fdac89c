// A real exporter that fails as it is told (kernel-modules/dmabuf_test.c): SYNC, mmap and pages.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allocateSync, type DmaBuf } from 'dmabuf';
import { snapshot } from 'dmabuf/inspect';
import { describeErrno } from '../../lib/errnos.js';
import { leavesNothing } from '../support/descriptors.js';
import { watch } from '../support/event-loop.js';
import { rejectsCode, throwsCode } from '../support/expect.js';
import { allSources, look } from '../support/inspect.js';
import {
  endTestFences,
  exporterTest,
  loseTestBuffer,
  noTestExporter,
  tell,
  testBuffer,
  testFence,
} from '../support/test-exporter.js';

test('these tests run', () => assert.equal(noTestExporter, false));

exporterTest('an exporter that fails in nothing gives memory as any other', async () => {
  using buffer = testBuffer(8192);
  assert.equal(buffer.write(new Uint8Array([1, 2, 3]), 4095), 3);
  assert.equal(await buffer.withCpuAccess('read', (bytes) => bytes[4096]), 2);
  const { exporter, size } = buffer.info();
  assert.deepEqual([exporter, size], ['dmabuf_test', 8192]);
});

// ---------- SYNC

const isWritten = (buffer: DmaBuf): boolean => {
  const target = new Uint8Array(1);
  buffer.read(target);
  return target[0] === 7;
};

// ERESTARTSYS and others are none that a program should see, but drivers let them out.
for (const errno of [1, 5, 12, 16, 19, 25, 512, 517, 524, 3000]) {
  const [name] = describeErrno(-errno);

  exporterTest(`START that fails with ${name} is that error of each access, which never begins`, async () => {
    using buffer = testBuffer();
    buffer.withCpuAccessSync('read', () => {}); // The mapping that it makes is kept.
    const ran: string[] = [];
    {
      using _told = tell({ begin_error: errno });
      const errors = await leavesNothing(async () => [
        throwsCode(() => buffer.cpuAccessSync('read'), name),
        throwsCode(() => buffer.withCpuAccessSync('write', () => ran.push('sync')), name),
        await rejectsCode(() => buffer.cpuAccess('read-write'), name),
        await rejectsCode(() => buffer.withCpuAccess('write', () => ran.push('async')), name),
        throwsCode(() => buffer.read(new Uint8Array(4)), name),
        throwsCode(() => buffer.write(new Uint8Array([7])), name),
        throwsCode(() => buffer.text(), name),
      ]);
      for (const error of errors)
        assert.deepEqual([error.errno, error.syscall], [-errno, 'DMA_BUF_IOCTL_SYNC']);
    }
    assert.deepEqual(ran, []);
    assert.equal(isWritten(buffer), false);
    assert.equal(buffer.write(new Uint8Array([7])), 1);
    assert.equal(isWritten(buffer), true);
  });

  exporterTest(`END that fails with ${name} is that error, and the access is over`, async () => {
    using buffer = testBuffer();
    using access = buffer.cpuAccessSync('write');
    {
      using _told = tell({ end_error: errno });
      const errors = [
        throwsCode(() => access.end(), name),
        throwsCode(() => buffer.withCpuAccessSync('write', (bytes) => bytes.fill(7)), name),
        await rejectsCode(() => buffer.withCpuAccess('write', (bytes) => bytes.length), name),
        throwsCode(() => buffer.read(new Uint8Array(4)), name),
        throwsCode(() => buffer.write(new Uint8Array([7])), name),
      ];
      for (const error of errors)
        assert.deepEqual([error.errno, error.syscall], [-errno, 'DMA_BUF_IOCTL_SYNC']);
      access.end();
    }
    assert.equal(isWritten(buffer), true);
  });
}

exporterTest('what the callback throws is kept when END fails too', async () => {
  using buffer = testBuffer();
  using _told = tell({ end_error: 5 });
  const own = new Error('of the caller');
  const fail = (): never => {
    throw own;
  };
  assert.throws(() => buffer.withCpuAccessSync('write', fail), own);
  await assert.rejects(buffer.withCpuAccess('write', fail), own);
});

exporterTest('a buffer is closed whose START or END fails, with accesses that have not ended', () => {
  for (const parameter of ['begin_error', 'end_error'] as const) {
    const buffer = testBuffer();
    const { bytes } = buffer.cpuAccessSync('write');
    using _told = tell({ [parameter]: 5 });
    buffer.close();
    assert.deepEqual([buffer.closed, bytes[0]], [true, 0]);
  }
});

for (const [name, errno] of [
  ['EINTR', 4],
  ['EAGAIN', 11],
] as const) {
  exporterTest(`START is tried again as long as it is ${name}, and once done it is done`, async () => {
    using buffer = testBuffer();
    using _told = tell({ begin_error: errno, begin_times: 0 });
    for (const access of [
      () => buffer.withCpuAccessSync('write', (bytes) => bytes.fill(7).length),
      async () => await buffer.withCpuAccess('read', (bytes) => bytes.length),
      () => buffer.write(new Uint8Array(8192)),
    ]) {
      using _times = tell({ begin_times: 1000 });
      assert.equal(await access(), 8192);
    }
  });
}

// ---------- mmap

for (const errno of [1, 12, 19, 22, 512]) {
  const [name] = describeErrno(-errno);
  exporterTest(`mmap that fails with ${name} is that error, and leaves nothing`, async () => {
    using buffer = testBuffer();
    {
      using _told = tell({ mmap_error: errno });
      const errors = await leavesNothing(async () => [
        throwsCode(() => buffer.map(), name),
        throwsCode(() => buffer.map({ offset: 4096, length: 1 }), name),
        throwsCode(() => buffer.cpuAccessSync('read'), name),
        await rejectsCode(() => buffer.withCpuAccess('read', () => 0), name),
        throwsCode(() => buffer.read(new Uint8Array(4)), name),
        throwsCode(() => buffer.write(new Uint8Array([7])), name),
      ]);
      for (const error of errors) assert.deepEqual([error.errno, error.syscall], [-errno, 'mmap']);
    }
    assert.equal(buffer.write(new Uint8Array([7])), 1);
    assert.equal(isWritten(buffer), true);
  });
}

// ---------- memory that is gone: test/lifecycle/every-node/lost has the same where mprotect(2) stands for the device

exporterTest(
  'mapped bytes read zeros when the device has gone, and what uses them says ERR_DMABUF_LOST',
  async () => {
    using buffer = testBuffer();
    const mapping = buffer.map();
    mapping.bytes.fill(7);
    loseTestBuffer(buffer);
    assert.equal(buffer.lost, false);
    assert.ok(mapping.bytes.every((byte) => byte === 0));
    assert.deepEqual([buffer.lost, mapping.lost], [true, true]);
    for (const use of [
      () => buffer.map(),
      () => buffer.cpuAccessSync('read'),
      () => buffer.withCpuAccessSync('read', () => 0),
      () => buffer.read(new Uint8Array(4)),
      () => buffer.write(new Uint8Array(4)),
      () => buffer.text(),
    ])
      throwsCode(use, 'ERR_DMABUF_LOST');
    await rejectsCode(() => buffer.cpuAccess('write'), 'ERR_DMABUF_LOST');
    await rejectsCode(() => buffer.withCpuAccess('read', () => 0), 'ERR_DMABUF_LOST');
  },
);

const firstTouches: readonly [string, (buffer: DmaBuf) => unknown][] = [
  ['read()', (buffer) => buffer.read(new Uint8Array(4))],
  ['write()', (buffer) => buffer.write(new Uint8Array(4))],
  ['text()', (buffer) => buffer.text()],
  ['withCpuAccessSync()', (buffer) => buffer.withCpuAccessSync('read', (bytes) => bytes[0])],
  ['withCpuAccess()', (buffer) => buffer.withCpuAccess('write', (bytes) => bytes.fill(1))],
];

for (const [name, touch] of firstTouches) {
  exporterTest(`${name} is the first to touch a buffer whose device has gone: ERR_DMABUF_LOST`, async () => {
    using buffer = testBuffer();
    loseTestBuffer(buffer);
    const { hint } = await rejectsCode(async () => await touch(buffer), 'ERR_DMABUF_LOST');
    assert.match(hint ?? '', /^The device was probably removed: close the buffer/);
    assert.equal(buffer.lost, true);
  });
}

exporterTest('the end of an access says that the device went meanwhile', () => {
  using buffer = testBuffer();
  const access = buffer.cpuAccessSync('write');
  access.bytes.fill(7);
  loseTestBuffer(buffer);
  access.bytes.fill(8);
  throwsCode(() => access.end(), 'ERR_DMABUF_LOST');
});

exporterTest('a lost buffer can still be named, described, copied, sent on its way and closed', () => {
  const buffer = testBuffer();
  loseTestBuffer(buffer);
  throwsCode(() => buffer.read(new Uint8Array(1)), 'ERR_DMABUF_LOST');
  buffer.setName('lost');
  assert.equal(buffer.info().name, 'lost');
  using copy = buffer.dup();
  assert.equal(copy.lost, false);
  throwsCode(() => copy.read(new Uint8Array(1)), 'ERR_DMABUF_LOST');
  buffer.exportSyncFile('read').close();
  buffer.close();
  assert.equal(buffer.closed, true);
});

exporterTest('only the buffer of the device that has gone is lost', () => {
  using lost = testBuffer();
  using other = testBuffer();
  using heap = allocateSync(4096);
  const maps = [lost, other, heap].map((buffer) => buffer.map());
  for (const { bytes } of maps) bytes.fill(7);
  loseTestBuffer(lost);
  assert.deepEqual(
    maps.map(({ bytes }) => bytes[0]),
    [0, 7, 7],
  );
  assert.deepEqual([lost.lost, other.lost, heap.lost], [true, false, false]);
});

// ---------- fences and names

exporterTest('a write that a device fails to finish lets readers in all the same', async () => {
  using buffer = testBuffer();
  using file = testFence(5);
  buffer.importSyncFile(file, 'write');
  const ready = watch(buffer.ready('read'));
  throwsCode(() => buffer.read(new Uint8Array(1)), 'EAGAIN');
  assert.equal(ready.state, 'pending');
  endTestFences();
  await buffer.ready('read');
  assert.equal(buffer.read(new Uint8Array(1)), 1);
});

for (const exporter of ['with space', 'tab\there', 'x'.repeat(60), 'size:\t9', 'größe', 'name:\tx']) {
  exporterTest(
    `an exporter may be called ${JSON.stringify(exporter)}: every source that tells one name from the next says so`,
    async () => {
      using _told = tell({ exporter });
      using buffer = testBuffer(12_288);
      buffer.setName('frame');
      const { name, size, exporter: told } = buffer.info();
      assert.deepEqual([told, name, size], [exporter, 'frame', 12_288]);
      const sources = exporter.includes('\t') ? allSources.filter((one) => one !== 'debugfs') : allSources;
      for (const source of sources) {
        const own = await look(source, buffer.inode);
        assert.deepEqual([own?.exporter, own?.name, own?.size], [exporter, 'frame', 12_288], source);
      }
    },
  );
}

exporterTest("debugfs is refused where an exporter's name cannot be told from the next column", async () => {
  using _told = tell({ exporter: 'two\tcolumns' });
  using _buffer = testBuffer();
  await rejectsCode(() => snapshot({ source: 'debugfs' }), 'ERR_DMABUF_UNSUPPORTED_KERNEL');
});
