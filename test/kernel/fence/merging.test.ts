// Merging any number of sync_files beside the event loop.

import assert from 'node:assert/strict';
import { allocateSync, type DmaBuf, SyncFile } from 'dmabuf';
import { testArguments } from '../../support/argument-tests.js';
import { badRequiredNames, badSignals, badTimeouts } from '../../support/bad-values.js';
import { openFds } from '../../support/descriptors.js';
import { until, watch } from '../../support/event-loop.js';
import { rejectsCode, unsound } from '../../support/expect.js';
import { addFence, type Fence, fenceTest, signalAll } from '../../support/fences.js';
import { kernelTest } from '../../support/kernel-test.js';
import type { MergesReport } from '../../support/programs/merges-at-limit.js';
import { runProgramAfter } from '../../support/programs.js';

/** Files of fences on timelines of their own. */
class Files implements Disposable {
  readonly buffers: DmaBuf[] = [];
  readonly fences: Fence[] = [];
  readonly files: SyncFile[] = [];

  constructor(count: number) {
    for (let index = 0; index < count; index++) {
      const buffer = allocateSync(4096);
      this.buffers.push(buffer);
      this.fences.push(addFence(buffer, 'write'));
      this.files.push(buffer.exportSyncFile('read'));
    }
  }

  [Symbol.dispose](): void {
    for (const object of [...this.fences, ...this.files, ...this.buffers]) object[Symbol.dispose]();
  }
}

/** Counts the turns of the event loop until the promise has settled. */
async function countTurns(promise: Promise<unknown>): Promise<number> {
  let isOver = false;
  let turns = 0;
  const settled = promise.catch(() => {}).then(() => (isOver = true));
  while (!isOver) {
    turns++;
    await new Promise((resolve) => setImmediate(resolve));
  }
  await settled;
  return turns;
}

for (const count of [1, 2, 16, 17, 33, 260]) {
  fenceTest(`a merge of ${count} has all fences, the name, and one descriptor`, async () => {
    using made = new Files(count);
    const before = openFds().size;
    using merged = await SyncFile.mergeAsync('all of them', made.files);
    assert.equal(openFds().size, before + 1);
    const { name, fences } = merged.info();
    assert.equal(name, 'all of them');
    // On a slow machine the kernel gives the first ones up, and leaves them out.
    if (made.files[0]?.status === 'active') assert.equal(fences.length, count);
    assert.ok(made.files.every(({ closed }) => !closed));
  });
}

fenceTest('a merged file has signalled when the last fence has', async () => {
  using made = new Files(20);
  using merged = await SyncFile.mergeAsync('all', made.files);
  const watched = watch(merged.wait());
  signalAll(made.fences.slice(0, -1));
  assert.equal(merged.status, 'active');
  made.fences.at(-1)?.signal();
  await until(() => watched.state === 'fulfilled');
});

fenceTest('the event loop turns while many are merged', async () => {
  using made = new Files(320);
  const merging = SyncFile.mergeAsync('many', made.files);
  const turns = await countTurns(merging);
  (await merging).close();
  // 20 jobs for the files, 2 for what those make, and the last.
  assert.ok(turns >= 20, `${turns} turns`);
});

fenceTest('a signal ends a merge at once, and nothing is left', async () => {
  using made = new Files(100);
  const before = openFds().size;
  const reason = new Error('enough');
  for (const after of [0, 1, 4]) {
    const controller = new AbortController();
    const merging = SyncFile.mergeAsync('aborted', made.files, { signal: controller.signal });
    for (let turn = 0; turn < after; turn++) await new Promise((resolve) => setImmediate(resolve));
    controller.abort(reason);
    await assert.rejects(merging, (error) => error === reason);
    await until(() => openFds().size === before);
  }
});

fenceTest('a timeout ends a merge too', async () => {
  using made = new Files(100);
  const before = openFds().size;
  await rejectsCode(() => SyncFile.mergeAsync('late', made.files, { timeout: 0 }), 'ETIMEDOUT');
  await until(() => openFds().size === before);
});

fenceTest('a file that is closed before its turn ends a merge, and nothing is left', async () => {
  using made = new Files(100);
  const merging = SyncFile.mergeAsync('closed', made.files);
  made.files.at(-1)?.close();
  const before = openFds().size;
  await rejectsCode(() => merging, 'ERR_DMABUF_CLOSED');
  assert.ok(openFds().size <= before);
});

fenceTest('files may be closed once their turn has come', async () => {
  using made = new Files(16);
  const merging = SyncFile.mergeAsync('closed', made.files);
  for (const file of made.files) file.close();
  using merged = await merging;
  assert.equal(merged.info().fences.length, 16);
});

kernelTest('a closed file is refused wherever it stands', async () => {
  using buffer = allocateSync(4096);
  using file = buffer.exportSyncFile('read');
  const closed = buffer.exportSyncFile('read');
  closed.close();
  for (const files of [[closed], [file, closed], [...Array(40).fill(file), closed]]) {
    await rejectsCode(() => SyncFile.mergeAsync('x', files), 'ERR_DMABUF_CLOSED');
  }
});

kernelTest('what is no list of sync_files is refused', async () => {
  using buffer = allocateSync(4096);
  using file = buffer.exportSyncFile('read');
  for (const files of [undefined, null, 1, 'x', {}, file, new Set([file]), [file, null], [buffer], [1]]) {
    await rejectsCode(() => SyncFile.mergeAsync('x', unsound(files)), 'ERR_INVALID_ARG_TYPE');
  }
  await rejectsCode(() => SyncFile.mergeAsync('x', []), 'ERR_OUT_OF_RANGE');
});

kernelTest('without descriptors a merge is refused, wherever it stands, and nothing is left', () => {
  const found = runProgramAfter<MergesReport>('ulimit -n 64', 'merges-at-limit');
  assert.ok(found.attempts.length > 5);
  for (const { free, outcome, left } of found.attempts) {
    assert.deepEqual(left, [], `with ${free} free`);
    assert.equal(outcome, free < 16 ? 'EMFILE' : outcome, `with ${free} free`);
    assert.ok(['EMFILE', 'merged'].includes(outcome), outcome);
  }
  assert.ok(found.attempts.some(({ outcome }) => outcome === 'merged'));
});

const withFile = async (call: (file: SyncFile) => Promise<SyncFile>): Promise<SyncFile> => {
  using buffer = allocateSync(4096);
  using file = buffer.exportSyncFile('read');
  return await call(file);
};
const withOption = (key: string) => (value: unknown) =>
  withFile((file) => SyncFile.mergeAsync('x', [file], unsound({ [key]: value })));

testArguments(kernelTest, [
  {
    argument: 'SyncFile.mergeAsync, name,',
    bad: badRequiredNames,
    call: (value) => withFile((file) => SyncFile.mergeAsync(unsound(value), [file])),
    rejects: true,
  },
  {
    argument: 'SyncFile.mergeAsync, option signal,',
    bad: badSignals,
    call: withOption('signal'),
    rejects: true,
  },
  {
    argument: 'SyncFile.mergeAsync, option timeout,',
    bad: badTimeouts,
    call: withOption('timeout'),
    rejects: true,
  },
]);
