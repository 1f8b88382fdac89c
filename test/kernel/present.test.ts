// What console.log(), JSON.stringify() and structuredClone() make of the objects.

import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { inspect } from 'node:util';
import * as workerThreads from 'node:worker_threads';
import { allocateSync, DmaBufPool, DmaHeap, type SyncFile } from 'dmabuf';
import { reuse } from '../support/descriptors.js';
import { kernelTest } from '../support/kernel-test.js';

const parsed = (value: unknown): Record<string, unknown> => JSON.parse(JSON.stringify(value));
const cannotRefuse =
  'markAsUncloneable' in workerThreads ? false : 'this Node.js has no way to refuse a clone';

kernelTest('a buffer is shown with its size, name, exporter and source', () => {
  using buffer = allocateSync(8192, { from: 'system', name: 'frame' });
  const { fd, inode } = buffer;
  const details = {
    fd,
    inode,
    size: 8192,
    exporter: 'system',
    name: 'frame',
    source: 'system',
    closed: false,
  };
  assert.deepEqual(parsed(buffer), { type: 'DmaBuf', ...details });
  assert.equal(inspect(buffer), inspect(details).replace(/^/, 'DmaBuf '));
});

kernelTest('a closed buffer is shown with what is still known', () => {
  const buffer = allocateSync(4096, { from: 'system' });
  const { inode } = buffer;
  buffer.close();
  assert.deepEqual(parsed(buffer), { type: 'DmaBuf', inode, size: 4096, source: 'system', closed: true });
  const unseen = allocateSync(4096);
  unseen.close();
  assert.match(inspect(unseen), /^DmaBuf \{.*closed: true\s\}$/);
});

kernelTest('a buffer whose descriptor stands for another file is shown, and the file left alone', () => {
  const buffer = allocateSync(4096);
  const { fd } = buffer;
  reuse(fd, () => openSync('/dev/null', 'r'));
  const { fd: shown, exporter } = parsed(buffer);
  assert.deepEqual([shown, exporter], [-1, undefined]);
  assert.match(inspect(buffer), /^DmaBuf \{/);
  buffer.close();
  closeSync(fd);
});

kernelTest('a name that any process may have set cannot forge what is shown', () => {
  using buffer = allocateSync(4096, { name: "x', size: 1, \u001b[2J\n" });
  assert.equal(inspect(buffer).includes('\u001b'), false);
  assert.equal(parsed(buffer).size, 4096);
});

kernelTest('heaps, files of fences, mappings, accesses and loans are shown', async () => {
  using heap = DmaHeap.open('system');
  using buffer = heap.allocateSync(4096);
  using file: SyncFile = buffer.exportSyncFile('read');
  using mapping = buffer.map();
  using access = buffer.cpuAccessSync('write');
  using pool = new DmaBufPool(4096);
  using loan = await pool.acquire();
  const { fd } = heap;
  assert.deepEqual(parsed(heap), { type: 'DmaHeap', name: 'system', path: heap.path, fd, closed: false });
  const { type, status, fences, closed } = parsed(file);
  assert.deepEqual(
    { type, status, fences, closed },
    { type: 'SyncFile', status: 'signaled', fences: 1, closed: false },
  );
  assert.deepEqual(parsed(mapping), { type: 'DmaBufMapping', offset: 0, length: 4096, closed: false });
  assert.deepEqual(parsed(access), { type: 'CpuAccess', access: 'write', length: 4096, ended: false });
  assert.equal((parsed(loan).buffer as { size: number }).size, 4096);
  for (const object of [heap, file, mapping, access, pool, loan]) {
    assert.ok(inspect(object).startsWith(`${object.constructor.name} {`));
  }
});

kernelTest(
  'structuredClone() refuses every object',
  async () => {
    using heap = DmaHeap.open('system');
    using buffer = heap.allocateSync(4096);
    using file = buffer.exportSyncFile('read');
    using mapping = buffer.map();
    using access = buffer.cpuAccessSync('write');
    using pool = new DmaBufPool(4096);
    using loan = await pool.acquire();
    for (const object of [heap, buffer, file, mapping, access, pool, loan]) {
      assert.throws(() => structuredClone(object), { name: 'DataCloneError' });
    }
  },
  cannotRefuse,
);
