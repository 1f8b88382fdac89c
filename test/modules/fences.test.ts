// Fences that fail, and as many timelines as one likes: sw_sync makes them, and the exporter of this package any errno. What
// fences do when all goes well is for test/kernel to show.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allocateSync, type DmaBuf, type DmaBufError, SyncFile } from 'dmabuf';
import { describeErrno } from '../../lib/errnos.js';
import { turns, watch } from '../support/event-loop.js';
import { rejectsCode } from '../support/expect.js';
import { noSwSync, swSyncTest, Timeline } from '../support/sw-sync.js';
import { endTestFences, exporterTest, noTestExporter, tell, testFence } from '../support/test-exporter.js';

function closeAll(objects: Iterable<Disposable>): void {
  for (const object of objects) object[Symbol.dispose]();
}

const timelines = (count: number): Timeline[] => Array.from({ length: count }, () => new Timeline());

function assertFailed(error: DmaBufError, errno: number): void {
  assert.equal(error.errno, -errno);
  assert.match(error.message, /: a fence ended in error: the device did not finish its work$/);
}

test('these tests run', () => {
  assert.deepEqual([noSwSync, noTestExporter], [false, false]);
});

// ---------- one fence that fails

swSyncTest(
  'wait rejects with the error of a fence that fails meanwhile, and of one that has failed',
  async () => {
    using timeline = new Timeline();
    using file = timeline.fence();
    const waiting = file.wait();
    assert.equal(file.status, 'active');
    timeline.close();
    assertFailed(await rejectsCode(() => waiting, 'ENOENT'), 2);
    assertFailed(await rejectsCode(() => file.wait(), 'ENOENT'), 2);
    assert.equal(file.status, 'error');
    const { status, error, fences } = file.info();
    assert.deepEqual([status, error], ['error', 'ENOENT']);
    assert.deepEqual(
      fences.map((fence) => [fence.status, fence.error, fence.timestamp > 0n]),
      [['error', 'ENOENT', true]],
    );
  },
);

swSyncTest('fences that signal before their timeline is closed have not failed', async () => {
  using timeline = new Timeline();
  using first = timeline.fence(1);
  using second = timeline.fence(2);
  timeline.advance();
  timeline.close();
  await first.wait();
  assertFailed(await rejectsCode(() => second.wait(), 'ENOENT'), 2);
  assert.deepEqual([first.status, second.status], ['signaled', 'error']);
});

// Of errnos that no program is told (ERESTARTSYS, EPROBE_DEFER), that have no name, and that are in the kernel's way.
for (const errno of [5, 125, 62, 110, 19, 11, 4, 512, 517, 524, 3000, 4095]) {
  const [name] = describeErrno(-errno);
  exporterTest(`a fence that ends in ${name} says so`, async () => {
    using file = testFence(errno);
    using copy = file.dup();
    const waiting = file.wait();
    endTestFences();
    assertFailed(await rejectsCode(() => waiting, name), errno);
    assertFailed(await rejectsCode(() => copy.wait(), name), errno);
    assert.deepEqual([file.status, file.info().error, file.info().fences[0]?.error], ['error', name, name]);
  });
}

exporterTest('a driver and a timeline may have any name', () => {
  for (const [driver, timeline] of [
    ['d'.repeat(31), 't'.repeat(31)],
    ['größe', 'a b\tc'],
    ['x', '\n'],
  ] as const) {
    using _names = tell({ driver, timeline });
    using file = testFence(0);
    const [fence] = file.info().fences;
    assert.deepEqual([fence?.driver, fence?.timeline], [driver, timeline]);
    endTestFences();
  }
});

// ---------- on a buffer

/** A buffer that a device writes, with a fence of the timeline. */
function busyBuffer(timeline: Timeline): DmaBuf {
  const buffer = allocateSync(4096);
  using file = timeline.fence();
  buffer.importSyncFile(file, 'write');
  return buffer;
}

swSyncTest(
  'ready, cpuAccess and read go on when a fence has failed: the device is done all the same',
  async () => {
    using timeline = new Timeline();
    using buffer = busyBuffer(timeline);
    assert.deepEqual([buffer.isReady('read'), buffer.isReady('write')], [false, false]);
    const waiting = [
      buffer.ready('read'),
      buffer.ready('write'),
      buffer.withCpuAccess('read-write', (bytes) => void bytes.fill(7)),
    ];
    const watched = waiting.map((promise) => watch(promise));
    await turns();
    assert.deepEqual(
      watched.map(({ state }) => state),
      ['pending', 'pending', 'pending'],
    );
    timeline.close();
    await Promise.all(waiting);
    assert.deepEqual([buffer.isReady('read'), buffer.isReady('write')], [true, true]);
    const target = new Uint8Array(4);
    assert.equal(buffer.read(target), 4);
    assert.deepEqual([...target], [7, 7, 7, 7]);
  },
);

swSyncTest(
  'a file exported before the fence fails tells that it did, one exported afterwards no more',
  async () => {
    using timeline = new Timeline();
    using buffer = busyBuffer(timeline);
    using before = buffer.exportSyncFile('read');
    timeline.close();
    await buffer.ready('write');
    using after = buffer.exportSyncFile('read');
    assertFailed(await rejectsCode(() => before.wait(), 'ENOENT'), 2);
    await after.wait();
    assert.deepEqual([before.status, after.status], ['error', 'signaled']);
  },
);

swSyncTest('a fence that has failed already makes no buffer busy', () => {
  using timeline = new Timeline();
  using file = timeline.fence();
  timeline.close();
  using buffer = allocateSync(4096);
  buffer.importSyncFile(file, 'write');
  assert.ok(buffer.isReady('write'));
});

swSyncTest(
  'readers wait only for the writers of many timelines, writers for all, whichever fails',
  async () => {
    using buffer = allocateSync(4096);
    const [writers, readers] = [timelines(25), timelines(25)];
    for (const [access, users] of [
      ['write', writers],
      ['read', readers],
    ] as const) {
      for (const timeline of users) {
        using file = timeline.fence();
        buffer.importSyncFile(file, access);
      }
    }
    using ofWriters = buffer.exportSyncFile('read');
    using ofAll = buffer.exportSyncFile('write');
    assert.deepEqual([ofWriters.info().fences.length, ofAll.info().fences.length], [25, 50]);
    const read = buffer.ready('read');
    const write = watch(buffer.ready('write'));
    for (const timeline of writers) timeline.advance();
    await read;
    await turns();
    assert.deepEqual(
      [write.state, buffer.isReady('read'), buffer.isReady('write')],
      ['pending', true, false],
    );
    closeAll(readers);
    await buffer.ready('write');
    assert.ok(buffer.isReady('write'));
    closeAll(writers);
  },
);

// ---------- merged

const ways = [
  [
    'merge',
    async (files: SyncFile[]) =>
      SyncFile.merge('all', files[0] as SyncFile, files[1] as SyncFile, ...files.slice(2)),
  ],
  ['mergeAsync', async (files: SyncFile[]) => await SyncFile.mergeAsync('all', files)],
] as const;

for (const [name, merge] of ways) {
  swSyncTest(`${name} remembers a fence that failed before, and waits for the others`, async () => {
    using failing = new Timeline();
    using other = new Timeline();
    using failed = failing.fence();
    using active = other.fence();
    failing.close();
    using merged = await merge([failed, active]);
    using copy = merged.dup();
    const watched = watch(merged.wait());
    await turns();
    assert.equal(watched.state, 'pending');
    other.advance();
    assertFailed(await rejectsCode(() => merged.wait(), 'ENOENT'), 2);
    assertFailed(await rejectsCode(() => copy.wait(), 'ENOENT'), 2);
    assert.deepEqual([merged.status, merged.info().error], ['error', 'ENOENT']);
  });

  swSyncTest(
    `${name} of fences, half of which fail afterwards: wait rejects when the last is over`,
    async () => {
      const all = timelines(10);
      const files = all.map((timeline) => timeline.fence());
      using merged = await merge(files);
      for (const timeline of all.slice(0, 5)) timeline.advance();
      const waiting = merged.wait();
      const watched = watch(waiting);
      closeAll(all.slice(5, 9));
      await turns();
      assert.equal(watched.state, 'pending');
      closeAll(all.slice(9));
      assertFailed(await rejectsCode(() => waiting, 'ENOENT'), 2);
      const states = merged.info().fences.map(({ error, status }) => error ?? status);
      assert.deepEqual(states.sort(), [...Array(5).fill('ENOENT'), ...Array(5).fill('signaled')]);
      closeAll([...files, ...all]);
    },
  );

  swSyncTest(`${name} takes the fences of 1 000 timelines`, async () => {
    const all = timelines(1000);
    const files = all.map((timeline, index) => timeline.fence(index + 1, `fence-${index}`));
    using merged = await merge(files);
    const { status, fences } = merged.info();
    assert.deepEqual([status, fences.length], ['active', 1000]);
    const waiting = merged.wait();
    const watched = watch(waiting);
    for (const [index, timeline] of all.entries()) if (index !== 500) timeline.advance(index + 1);
    await turns();
    assert.deepEqual([watched.state, merged.status], ['pending', 'active']);
    all[500]?.advance(501);
    await waiting;
    assert.equal(merged.status, 'signaled');
    closeAll([...files, ...all]);
  });

  swSyncTest(`${name} finds the one of 1 000 timelines that failed`, async () => {
    const all = timelines(1000);
    const files = all.map((timeline) => timeline.fence());
    all[777]?.close();
    using merged = await merge(files);
    for (const timeline of all) if (timeline !== all[777]) timeline.advance();
    assertFailed(await rejectsCode(() => merged.wait(), 'ENOENT'), 2);
    closeAll([...files, ...all]);
  });

  swSyncTest(
    `${name} keeps the latest of 1 000 fences of one timeline, for which the others are over`,
    async () => {
      using timeline = new Timeline();
      const files = Array.from({ length: 1000 }, (_, index) => timeline.fence(index + 1));
      using merged = await merge(files);
      assert.equal(merged.info().fences.length, 1);
      timeline.advance(999);
      assert.deepEqual([merged.status, files[998]?.status], ['active', 'signaled']);
      timeline.advance();
      await merged.wait();
      closeAll(files);
    },
  );
}

swSyncTest('1 000 waits for points of one timeline end in the order of the points', async () => {
  using timeline = new Timeline();
  const files = Array.from({ length: 1000 }, (_, index) => timeline.fence(index + 1));
  const order: number[] = [];
  const waits = files.map(async (file, index) => {
    await file.wait();
    order.push(index);
  });
  for (let point = 0; point < 1000; point += 100) {
    timeline.advance(100);
    await waits[point + 99];
    assert.deepEqual(
      [...order].sort((a, b) => a - b),
      Array.from({ length: point + 100 }, (_, index) => index),
    );
  }
  closeAll(files);
});

// ---------- deadlines

swSyncTest('a deadline reaches the driver, to the nanosecond, of a merged file too', () => {
  const all = timelines(2);
  const files = all.map((timeline) => timeline.fence());
  const deadline = process.hrtime.bigint() + 3_600_000_000_001n;
  files[0]?.setDeadline(deadline);
  assert.equal(all[0]?.deadlineOf(files[0] as SyncFile), deadline);
  using merged = SyncFile.merge('both', files[0] as SyncFile, files[1] as SyncFile);
  merged.setDeadline(deadline - 1n);
  for (const [index, timeline] of all.entries())
    assert.equal(timeline.deadlineOf(files[index] as SyncFile), deadline - 1n);
  closeAll([...files, ...all]);
});
