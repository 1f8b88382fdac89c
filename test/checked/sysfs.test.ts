// The statistics of CONFIG_DMABUF_SYSFS_STATS, on a kernel that has them, beside what its other interfaces say.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { allocateSync, DmaBuf, DmaHeap } from 'dmabuf';
import { type BufferUsage, type Snapshot, snapshot } from 'dmabuf/inspect';
import { addFence, drmBufferFd, noFences } from '../support/fences.js';
import { checkSums, find, hasStatistics, look } from '../support/inspect.js';
import { kernelTest } from '../support/kernel-test.js';
import { packageRoot } from '../support/programs.js';
import { noTestExporter, testBuffer } from '../support/test-exporter.js';

const folder = '/sys/kernel/dmabuf/buffers';
const inodes = (): number[] => readdirSync(folder).map(Number);

// Nothing here is skipped: on a kernel without what it needs, this file proves nothing and says so.
test('these tests run', () => {
  assert.ok(hasStatistics, `there is no ${folder}: npm run prove:kernel`);
  assert.equal(noFences, false);
  assert.equal(noTestExporter, false);
  assert.ok(DmaHeap.list().some(({ kind }) => kind === 'cma'));
});

const said = ({ inode, size, exporter }: BufferUsage): string => `${inode} ${size} ${exporter}`;
const saidBy = (taken: Snapshot): string[] => taken.buffers.map(said);

/** A buffer of every exporter that this kernel has, some with names that try to be more. */
function oneOfEach(): DmaBuf[] {
  const contiguous = DmaHeap.list().find(({ kind }) => kind === 'cma')?.path ?? '';
  return [
    allocateSync(4096, { from: 'system' }),
    allocateSync(12_288, { from: 'system', name: 'evil\nexp_name:\tudmabuf\nsize:\t1' }),
    allocateSync(8192, { from: 'udmabuf', name: 'ü' }),
    allocateSync(1 << 20, { from: contiguous }),
    DmaBuf.adopt(drmBufferFd()),
    testBuffer(16_384),
  ];
}

kernelTest('sysfs and debugfs know the same buffers, their sizes and exporters', async () => {
  const buffers = oneOfEach();
  try {
    const [sysfs, debugfs] = [await snapshot({ source: 'sysfs' }), await snapshot({ source: 'debugfs' })];
    assert.deepEqual(sysfs.source, ['sysfs']);
    checkSums(sysfs);
    assert.deepEqual(saidBy(sysfs), saidBy(debugfs));
    const mine = buffers.map(({ inode }) => find(sysfs, inode)?.exporter);
    const expected = ['system', 'system', 'udmabuf', mine[3], 'drm', 'dmabuf_test'];
    assert.deepEqual(mine, expected);
    assert.match(mine[3] ?? '', /cma|reserved/);
    assert.deepEqual(sysfs.exporters, debugfs.exporters);
    assert.deepEqual(sysfs.total, debugfs.total);
  } finally {
    for (const buffer of buffers) buffer.close();
  }
});

kernelTest('procfs says the same of what this process holds', async () => {
  const buffers = oneOfEach();
  try {
    const sysfs = await snapshot({ source: 'sysfs' });
    const procfs = await snapshot({ source: 'procfs', pids: [process.pid] });
    for (const buffer of buffers) {
      const [statistics, seen] = [find(sysfs, buffer.inode), find(procfs, buffer.inode)];
      assert.ok(statistics !== undefined && seen !== undefined);
      assert.equal(said(statistics), said(seen));
      const { size, exporter, name } = buffer.info();
      assert.deepEqual([statistics.size, statistics.exporter], [size, exporter]);
      // No name, no references, no holders: sysfs knows none.
      assert.equal(seen.name, name);
      assert.deepEqual(Object.keys(statistics).sort(), ['exporter', 'holders', 'inode', 'size']);
      assert.deepEqual(statistics.holders, []);
    }
    const found = await look('sysfs', buffers[0]?.inode ?? 0);
    assert.equal(found?.size, 4096);
  } finally {
    for (const buffer of buffers) buffer.close();
  }
});

kernelTest('a device that has attached itself is told of by debugfs alone', async () => {
  using buffer = allocateSync(8192);
  using _fence = addFence(buffer, 'read');
  const { devices } = (await look('debugfs', buffer.inode)) as BufferUsage;
  assert.deepEqual(devices, []); // The fence stays, the handle that it was made with has gone.
  const both = await snapshot({ devices: true });
  assert.deepEqual(find(both, buffer.inode)?.devices, []);
  const statistics = (await look('sysfs', buffer.inode)) as BufferUsage;
  assert.equal('devices' in statistics, false, 'not known is not none');
  assert.deepEqual(readdirSync(join(folder, String(buffer.inode))).sort(), ['exporter_name', 'size']);
});

kernelTest('a buffer is there as long as anything holds it, and not longer', async () => {
  const buffer = allocateSync(4096);
  const { inode } = buffer;
  const copy = buffer.dup();
  buffer.close();
  assert.equal((await look('sysfs', inode))?.size, 4096);
  copy.close();
  assert.equal(await look('sysfs', inode), undefined);
  assert.equal(inodes().includes(inode), false);
});

kernelTest('buffers that come and go meanwhile are whole or not there', async () => {
  using steady = allocateSync(4096);
  let goesOn = true;
  const churn = (async (): Promise<void> => {
    while (goesOn) {
      using _buffer = allocateSync(4096);
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  try {
    for (let round = 0; round < 20; round++) {
      const taken = await snapshot({ source: 'sysfs' });
      checkSums(taken);
      const incomplete = taken.buffers.filter(({ size, exporter }) => size === 0 || !exporter);
      assert.deepEqual(incomplete, []);
      assert.ok(find(taken, steady.inode) !== undefined);
    }
  } finally {
    goesOn = false;
    await churn;
  }
});

kernelTest('a thousand buffers are a thousand', async () => {
  const buffers = Array.from({ length: 1000 }, () => allocateSync(4096));
  try {
    const [sysfs, debugfs] = [await snapshot({ source: 'sysfs' }), await snapshot({ source: 'debugfs' })];
    assert.deepEqual(saidBy(sysfs), saidBy(debugfs));
    assert.ok(sysfs.total.buffers >= 1000);
  } finally {
    for (const buffer of buffers) buffer.close();
  }
});

kernelTest('an ordinary user learns all sizes and exporters, and of the own processes what they hold', () => {
  using secret = allocateSync(4096, { name: 'secret' });
  const program = `import('dmabuf/inspect').then(async ({ snapshot }) => {
    const { source, buffers, attempts, unaccounted } = await snapshot();
    console.log(JSON.stringify({ source, buffers, unaccounted, tried: attempts.map(({ source }) => source) }));
  });`;
  const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', program], {
    cwd: packageRoot,
    encoding: 'utf8',
    uid: 65534,
    gid: 65534,
  });
  assert.equal(status, 0, stderr);
  const { source, buffers, unaccounted, tried } = JSON.parse(stdout) as Pick<
    Snapshot,
    'source' | 'buffers' | 'unaccounted'
  > & { tried: string[] };
  assert.deepEqual(source, ['sysfs', 'procfs']);
  assert.deepEqual(tried, ['bpf', 'debugfs', 'bpf']);
  assert.deepEqual(
    buffers.find(({ inode }) => inode === secret.inode),
    { inode: secret.inode, size: 4096, exporter: 'system', holders: [] },
  );
  assert.ok((unaccounted?.size ?? 0) >= 4096);
});

kernelTest('the command shows them', () => {
  using buffer = allocateSync(12_288);
  const cli = join(packageRoot, 'dist/package/cli.js');
  const { stdout, stderr, status } = spawnSync(process.execPath, [cli, 'ls', '--source', 'sysfs', '--json'], {
    encoding: 'utf8',
  });
  assert.equal(status, 0, stderr);
  const { buffers } = JSON.parse(stdout) as Snapshot;
  assert.equal(buffers.find(({ inode }) => inode === buffer.inode)?.size, 12_288);
});
