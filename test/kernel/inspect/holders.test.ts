import assert from 'node:assert/strict';
import { allocateSync } from 'dmabuf';
import { diff, readFdInfo, type SnapshotSource, snapshot } from 'dmabuf/inspect';
import { compiled } from '../../support/compiled.js';
import { inheritedFd } from '../../support/descriptors.js';
import { checkSums, find, holderSources } from '../../support/inspect.js';
import { kernelTest } from '../../support/kernel-test.js';
import { Peer } from '../../support/peers.js';
import type { FewDescriptorsReport } from '../../support/programs/few-descriptors.js';
import type { InspectReport } from '../../support/programs/inspects.js';
import { runProgramAfter, runProgramInNamespace, startProgram } from '../../support/programs.js';

// Holders that are out of the ordinary.

const seers: readonly (SnapshotSource | 'auto')[] = ['auto', ...holderSources];
const me = process.pid;

/** Starts test/support/programs/holder.c. */
function startHolder(...args: (string | number)[]): Peer {
  return new Peer(compiled('holder'), args.map(String));
}

for (const source of seers) {
  kernelTest(`${source}: pids: a buffer is still divided among all that hold it`, async () => {
    using shared = allocateSync(8192);
    using own = allocateSync(4096);
    const nothing = Array.from({ length: inheritedFd - 3 }, () => 'ignore' as const);
    const child = startProgram('holds', { fds: [...nothing, shared.fd] });
    await child.line();
    try {
      const { buffers, processes, total } = await snapshot({ source, pids: [me, me] });
      const mine = [{ pid: me, fds: 1, mappings: 0 }];
      assert.deepEqual(buffers.find(({ inode }) => inode === shared.inode)?.holders, mine);
      assert.deepEqual(
        processes.map(({ pid, fds, rss, pss }) => [pid, fds, rss, pss]),
        [[me, 2, 12_288, 4096 + own.size]],
      );
      assert.equal(total.size, 12_288);
    } finally {
      child.goOn();
      await child.end;
    }
  });

  kernelTest(`${source}: more descriptors and mappings of one buffer are growth`, async () => {
    using buffer = allocateSync(4096);
    const before = await snapshot({ source });
    using first = buffer.dup();
    using second = first.dup();
    using mapping = second.map();
    const { grown, total } = diff(before, await snapshot({ source }));
    assert.deepEqual(
      grown.map(({ pid, growth, fds, mappings }) => [pid, growth, fds, mappings]),
      [[me, 0, 2, 1]],
      `${mapping.length}`,
    );
    assert.deepEqual(total, { buffers: 0, size: 0 });
  });

  if (source === 'auto') continue;
  kernelTest(`${source}: 100 000 descriptors of one buffer are counted`, async () => {
    await using holder = startHolder('dup', 100_000);
    await holder.line();
    const taken = await snapshot({ source });
    checkSums(taken);
    const held = taken.processes.find(({ pid }) => pid === holder.pid);
    assert.deepEqual([held?.buffers, held?.fds, held?.rss], [1, 100_000, 4096]);
  });
}

kernelTest('procfs: what a process holds whose first thread has ended', async () => {
  await using holder = startHolder('leaderless');
  await holder.line();
  const taken = await snapshot({ source: 'procfs' });
  checkSums(taken);
  const held = taken.processes.find(({ pid }) => pid === holder.pid);
  assert.deepEqual([held?.buffers, held?.fds, held?.mappings], [2, 1, 1]);
  assert.deepEqual(taken.unreadable, []);
});

kernelTest('a buffer with many locks is one all the same', async () => {
  await using holder = startHolder('lock', 2000);
  const [inode = 0, fd = 0] = (await holder.line()).split(' ').map(Number);
  const found = find(await snapshot({ source: 'procfs' }), inode);
  assert.deepEqual([found?.size, found?.exporter, found?.references], [4096, 'system', 1]);
  assert.equal(readFdInfo(holder.pid, fd)?.inode, inode);
});

kernelTest('procfs with subset=pid has all that is needed', async () => {
  await using holder = startHolder('hold', 2);
  await holder.line();
  const { snapshots, errors } = runProgramInNamespace<InspectReport>(
    'mount -t proc -o subset=pid proc /proc; export DMABUF_TEST_SOURCES=procfs',
    'inspects',
  );
  assert.deepEqual(errors, {});
  const held = snapshots.procfs?.processes.find(({ pid }) => pid === holder.pid);
  assert.deepEqual([held?.buffers, held?.command.slice(0, 8)], [2, 'dmabuf-t']);
});

kernelTest('with too few descriptors of its own a snapshot is an error or right, never less', () => {
  const { outcomes } = runProgramAfter<FewDescriptorsReport>('ulimit -n 48', 'few-descriptors');
  for (const source of holderSources) {
    const found = outcomes[source] ?? [];
    for (const outcome of found)
      assert.ok(['EMFILE', 'system 4096 1'].includes(outcome), `${source}: ${found}`);
    assert.deepEqual([found[0], found.at(-1)], ['EMFILE', 'system 4096 1'], source);
  }
});
