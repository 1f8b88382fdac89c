import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { allocateSync, DmaBuf, SyncFile } from 'dmabuf';
import { openFds, replaceByStranger } from '../../support/descriptors.js';
import { ticks, turns, until, watch } from '../../support/event-loop.js';
import { assertCode, rejectsCode } from '../../support/expect.js';
import { addFence, drmBufferFd, fenceTest, signalAll } from '../../support/fences.js';
import { kernelTest } from '../../support/kernel-test.js';
import { Fenced } from '../../support/sync-files.js';
import { withFullThreadPool } from '../../support/thread-pool.js';

// The facts that igt's dmabuf_sync_file and sw_sync check, as far as vgem makes such fences; test/modules has the others.

function manyFenced(count: number): Fenced[] {
  return Array.from({ length: count }, () => new Fenced());
}

function closeAll(objects: readonly Disposable[]): void {
  for (const object of objects) object[Symbol.dispose]();
}

kernelTest('without fences, the exported file has signalled', async () => {
  using buffer = allocateSync(4096);
  for (const access of ['read', 'write', 'read-write'] as const) {
    using file = buffer.exportSyncFile(access);
    assert.equal(file.status, 'signaled');
    const { status, fences } = file.info();
    assert.equal(status, 'signaled');
    assert.deepEqual(
      fences.map((fence) => fence.status),
      ['signaled'],
    );
    await file.wait();
  }
});

fenceTest('a file goes from active to signaled with its fence', () => {
  using fenced = new Fenced();
  assert.equal(fenced.file.status, 'active');
  fenced.fence.signal();
  assert.equal(fenced.file.status, 'signaled');
});

fenceTest('the export for reading has the fences of writers only', () => {
  using buffer = allocateSync(4096);
  using fence = addFence(buffer, 'read');
  using forReading = buffer.exportSyncFile('read');
  using forWriting = buffer.exportSyncFile('write');
  using forBoth = buffer.exportSyncFile('read-write');
  assert.deepEqual([forReading.status, forWriting.status, forBoth.status], ['signaled', 'active', 'active']);
  fence.signal();
  assert.deepEqual(
    [forReading.status, forWriting.status, forBoth.status],
    ['signaled', 'signaled', 'signaled'],
  );
});

fenceTest('the export of a writer has its fence for either access', () => {
  using buffer = allocateSync(4096);
  using fence = addFence(buffer, 'write');
  for (const access of ['read', 'write', 'read-write'] as const) {
    using file = buffer.exportSyncFile(access);
    assert.equal(file.status, 'active');
  }
  fence.signal();
});

fenceTest('an export is a snapshot: fences that are added later are not in it', () => {
  using buffer = allocateSync(4096);
  using before = buffer.exportSyncFile('write');
  using first = addFence(buffer, 'read');
  using between = buffer.exportSyncFile('write');
  using second = addFence(buffer, 'read');
  using after = buffer.exportSyncFile('write');
  assert.deepEqual([before.status, between.status, after.status], ['signaled', 'active', 'active']);
  first.signal();
  assert.deepEqual([before.status, between.status, after.status], ['signaled', 'signaled', 'active']);
  second.signal();
  assert.equal(after.status, 'signaled');
});

fenceTest('a file outlives the buffer that it was exported from', async () => {
  using fenced = new Fenced();
  fenced.buffer.close();
  const watched = watch(fenced.file.wait());
  await ticks(2);
  assert.equal(watched.state, 'pending');
  fenced.fence.signal();
  await until(() => watched.state === 'fulfilled');
});

fenceTest('info names driver and timeline, and the time once it has signalled', () => {
  using fenced = new Fenced();
  const before = process.hrtime.bigint();
  const info = fenced.file.info();
  assert.match(info.name, /^vgem-unbound\d+-\d+$/);
  assert.deepEqual(info, {
    name: info.name,
    status: 'active',
    fences: [{ timeline: 'unbound', driver: 'vgem', status: 'active', timestamp: 0n }],
  });
  fenced.fence.signal();
  const { status, fences } = fenced.file.info();
  assert.deepEqual([status, fences.length, fences[0]?.status], ['signaled', 1, 'signaled']);
  const timestamp = fences[0]?.timestamp ?? 0n;
  assert.ok(before <= timestamp && timestamp <= process.hrtime.bigint(), `${before} ${timestamp}`);
});

fenceTest('a fence moves from a DRM buffer to one of a heap', async () => {
  using drm = DmaBuf.adopt(drmBufferFd());
  using heap = allocateSync(4096);
  using fence = addFence(drm, 'write');
  using file = drm.exportSyncFile('write');
  heap.importSyncFile(file, 'write');
  assert.equal(heap.isReady('read'), false);
  const watched = watch(heap.ready('read'));
  await ticks(2);
  assert.equal(watched.state, 'pending');
  fence.signal();
  await until(() => watched.state === 'fulfilled');
});

fenceTest('a file imported for reading keeps writers away, and not readers', () => {
  using fenced = new Fenced();
  using buffer = allocateSync(4096);
  buffer.importSyncFile(fenced.file, 'read');
  assert.deepEqual([buffer.isReady('read'), buffer.isReady('write')], [true, false]);
  fenced.fence.signal();
  assert.equal(buffer.isReady('write'), true);
});

for (const access of ['write', 'read-write'] as const) {
  fenceTest(`a file imported for ${access} keeps everybody away`, () => {
    using fenced = new Fenced();
    using buffer = allocateSync(4096);
    buffer.importSyncFile(fenced.file, access);
    assert.deepEqual([buffer.isReady('read'), buffer.isReady('write')], [false, false]);
    fenced.fence.signal();
    assert.deepEqual([buffer.isReady('read'), buffer.isReady('write')], [true, true]);
  });
}

for (const existing of ['read', 'write'] as const) {
  fenceTest(`an import adds to a ${existing} fence that is there, and takes nothing away`, () => {
    for (const order of [
      [0, 1],
      [1, 0],
    ] as const) {
      using fenced = new Fenced();
      using buffer = allocateSync(4096);
      using own = addFence(buffer, existing);
      buffer.importSyncFile(fenced.file, 'write');
      const fences = [own, fenced.fence];
      fences[order[0]]?.signal();
      assert.equal(buffer.isReady('write'), false);
      fences[order[1]]?.signal();
      assert.equal(buffer.isReady('write'), true);
    }
  });
}

fenceTest('a file that has signalled makes no buffer busy', () => {
  using fenced = new Fenced();
  fenced.fence.signal();
  using buffer = allocateSync(4096);
  buffer.importSyncFile(fenced.file, 'write');
  assert.equal(buffer.isReady('write'), true);
});

fenceTest('a merged file is on a buffer until its last fence signals', () => {
  const fenced = manyFenced(3);
  const [first, second, third] = fenced.map(({ file }) => file) as [SyncFile, SyncFile, SyncFile];
  using merged = SyncFile.merge('three', first, second, third);
  using buffer = allocateSync(4096);
  buffer.importSyncFile(merged, 'write');
  for (const { fence } of fenced) {
    assert.equal(buffer.isReady('read'), false);
    fence.signal();
  }
  assert.equal(buffer.isReady('read'), true);
  closeAll(fenced);
});

fenceTest('a merged file has the name it was given and the fences of both', async () => {
  const [one, two] = manyFenced(2) as [Fenced, Fenced];
  using merged = SyncFile.merge('both of them', one.file, two.file);
  const { name, status, fences } = merged.info();
  assert.deepEqual([name, status, fences.length], ['both of them', 'active', 2]);
  const watched = watch(merged.wait());
  one.fence.signal();
  await ticks(2);
  assert.deepEqual(
    [watched.state, merged.status, one.file.status, two.file.status],
    ['pending', 'active', 'signaled', 'active'],
  );
  two.fence.signal();
  await until(() => watched.state === 'fulfilled');
  assert.equal(merged.status, 'signaled');
  closeAll([one, two]);
});

fenceTest('a fence merged with itself counts once', () => {
  using fenced = new Fenced();
  using copy = fenced.file.dup();
  using merged = SyncFile.merge('self', fenced.file, copy, fenced.file);
  assert.equal(merged.info().fences.length, 1);
  fenced.fence.signal();
  assert.equal(merged.status, 'signaled');
});

fenceTest('a fence that has signalled drops out of a merge', () => {
  const [done, pending] = manyFenced(2) as [Fenced, Fenced];
  done.fence.signal();
  using merged = SyncFile.merge('one left', done.file, pending.file);
  assert.deepEqual(
    merged.info().fences.map(({ status }) => status),
    ['active'],
  );
  closeAll([done, pending]);
});

fenceTest('merging what has signalled gives a file that has signalled', async () => {
  const [one, two] = manyFenced(2) as [Fenced, Fenced];
  signalAll([one.fence, two.fence]);
  using merged = SyncFile.merge('over', one.file, two.file);
  assert.equal(merged.status, 'signaled');
  await merged.wait();
  closeAll([one, two]);
});

for (const count of [8, 9, 20, 300]) {
  fenceTest(`info lists all of ${count} fences`, async () => {
    const fenced = manyFenced(count);
    const [first, second, ...more] = fenced.map(({ file }) => file) as [SyncFile, SyncFile, ...SyncFile[]];
    const before = openFds().size;
    using merged = SyncFile.merge(`all ${count}`, first, second, ...more);
    assert.equal(openFds().size, before + 1, 'merging left descriptors behind');
    signalAll(fenced.slice(0, 3).map(({ fence }) => fence));
    const { name, status, fences } = merged.info();
    assert.deepEqual([name, status, fences.length], [`all ${count}`, 'active', count]);
    assert.equal(fences.filter((fence) => fence.status === 'signaled').length, 3);
    assert.ok(fences.every((fence) => fence.driver !== '' && fence.timeline !== ''));
    const watched = watch(merged.wait());
    signalAll(fenced.slice(3, -1).map(({ fence }) => fence));
    await turns();
    assert.equal(watched.state, 'pending');
    fenced.at(-1)?.fence.signal();
    await until(() => watched.state === 'fulfilled');
    closeAll(fenced);
  });
}

kernelTest('31 bytes of name fit', () => {
  using buffer = allocateSync(4096);
  using file = buffer.exportSyncFile('read');
  for (const name of ['x'.repeat(31), `${'é'.repeat(15)}x`]) {
    using merged = SyncFile.merge(name, file, file);
    assert.equal(merged.info().name, name);
  }
});

fenceTest('wait of a file that has signalled is over in the same turn, without the thread pool', async () => {
  using fenced = new Fenced();
  fenced.fence.signal();
  await withFullThreadPool(async () => {
    const watched = watch(fenced.file.wait());
    await turns(1);
    assert.equal(watched.state, 'fulfilled');
  });
});

fenceTest('wait lets an interval tick, and ends, while the thread pool is full', async () => {
  using fenced = new Fenced();
  await withFullThreadPool(async () => {
    const watched = watch(fenced.file.wait());
    await ticks(20);
    assert.equal(watched.state, 'pending');
    fenced.fence.signal();
    await until(() => watched.state === 'fulfilled');
  });
});

fenceTest('many may wait for one file', async () => {
  using fenced = new Fenced();
  const all = Array.from({ length: 100 }, () => fenced.file.wait());
  fenced.fence.signal();
  await Promise.all(all);
});

fenceTest('wait rejects with the reason of the signal that aborts', async () => {
  using fenced = new Fenced();
  const controller = new AbortController();
  const waiting = fenced.file.wait({ signal: controller.signal });
  const reason = new Error('mine');
  controller.abort(reason);
  await assert.rejects(waiting, (error) => error === reason);
});

fenceTest('wait rejects with the reason of a signal that had aborted', async () => {
  using fenced = new Fenced();
  fenced.fence.signal();
  const reason = new Error('mine');
  await assert.rejects(fenced.file.wait({ signal: AbortSignal.abort(reason) }), (error) => error === reason);
});

fenceTest('wait rejects with ETIMEDOUT and the stack of its caller', async () => {
  using fenced = new Fenced();
  async function namedCaller(): Promise<void> {
    await fenced.file.wait({ timeout: 5 });
  }
  const { stack = '', message } = await rejectsCode(namedCaller, 'ETIMEDOUT');
  assert.match(message, /5 ms/);
  assert.match(stack, /at (async )?namedCaller .*sync-file\.test/);
});

for (const method of ['close', 'release'] as const) {
  fenceTest(`wait rejects when its file is ${method}d`, async () => {
    using fenced = new Fenced();
    const waiting = fenced.file.wait();
    const fd = fenced.file[method]();
    await rejectsCode(() => waiting, 'ERR_DMABUF_CLOSED');
    if (fd !== undefined) closeSync(fd);
  });
}

fenceTest('wait rejects when somebody closed the descriptor meanwhile', async () => {
  using fenced = new Fenced();
  const { file, fence } = fenced;
  const { fd } = file;
  const watched = watch(file.wait());
  await turns();
  replaceByStranger(fd);
  try {
    fence.signal();
    await until(() => watched.state !== 'pending');
    assertCode(watched.value, 'ERR_DMABUF_STALE_FD');
  } finally {
    closeSync(fd);
  }
});

fenceTest(
  'a device that never signals does not hold a wait for ever: the kernel ends the fence',
  async () => {
    using fenced = new Fenced();
    await fenced.file.wait();
    assert.throws(() => fenced.fence.signal(), { code: 'Connection timed out' });
    await fenced.buffer.ready('write');
  },
);

for (const [what, deadline] of [
  ['the past', 0n],
  ['now', process.hrtime.bigint()],
  ['the far future', 2n ** 64n - 1n],
] as const) {
  fenceTest(`a deadline in ${what} is taken and changes nothing that is seen`, () => {
    using fenced = new Fenced();
    fenced.file.setDeadline(deadline);
    assert.equal(fenced.file.status, 'active');
  });
}

fenceTest('a deadline for a merged file and for one that has signalled is taken', () => {
  const [one, two] = manyFenced(2) as [Fenced, Fenced];
  using merged = SyncFile.merge('both', one.file, two.file);
  merged.setDeadline(process.hrtime.bigint() + 1_000_000n);
  signalAll([one.fence, two.fence]);
  merged.setDeadline(1n);
  one.file.setDeadline(1n);
  closeAll([one, two]);
});
