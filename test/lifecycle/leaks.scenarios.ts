import assert from 'node:assert/strict';
import { closeSync, existsSync } from 'node:fs';
import { allocateSync, DmaBufChannel, DmaBufPool, DmaHeap, openHandles } from 'dmabuf';
import { collectGarbage, collectUntil, turn } from '../support/event-loop.js';
import { bufferFds, kernelHas, noKernelList } from '../support/observe.js';
import { size, socketPath, withBuffer } from './leaks.js';
import type { Scenario } from './scenario.js';

/** Has nobody left who refers to what `make` made, but for what it returns. */
function forget<T>(make: () => T): T {
  return make();
}

async function untilCollected(): Promise<void> {
  await collectUntil(() => openHandles().length === 0, 'no object is open');
}

/** Runs `lose` until what it lost has been collected, and checks that no buffer is left. */
async function lost(lose: () => unknown): Promise<void> {
  await forget(lose);
  await untilCollected();
  assert.equal(bufferFds(), 0);
}

/** Node writes the warnings here, in this order, and nothing else. */
export const scenarios: readonly Scenario[] = [
  {
    name: 'what was closed or released is collected without a word',
    async run() {
      await forget(async () => {
        const heap = DmaHeap.open('system');
        const buffer = heap.allocateSync(size);
        const file = buffer.exportSyncFile('read');
        const [here, there] = DmaBufChannel.pair();
        const server = DmaBufChannel.listen(socketPath());
        const client = await DmaBufChannel.connect(server.path);
        const accepted = await server.accept();
        const pool = new DmaBufPool(size);
        (await pool.acquire()).release();
        for (const object of [heap, file, here, server, client, accepted, pool]) object.close();
        DmaBufChannel.adopt(there.release()).close();
        const { fd } = buffer;
        assert.equal(buffer.release(), fd);
        closeSync(fd);
      });
      for (let round = 0; round < 5; round++) {
        collectGarbage();
        await turn();
      }
      assert.deepEqual(openHandles(), []);
    },
  },
  {
    name: 'a lost DmaBuf is closed, and a warning says how large it was, which, of whom, and its name',
    async run() {
      const inode = forget(() => allocateSync(size, { name: 'frame "7"' }).inode);
      assert.equal(openHandles().length, 1);
      await untilCollected();
      assert.equal(bufferFds(), 0);
      if (noKernelList === false) assert.ok(!kernelHas(inode));
    },
  },
  {
    name: 'a lost DmaHeap is closed, with a warning',
    run: () => lost(() => void DmaHeap.open('system')),
  },
  {
    name: 'a lost SyncFile is closed, with a warning',
    run: () => lost(() => withBuffer((buffer) => void buffer.exportSyncFile('read'))),
  },
  {
    name: 'a lost DmaBufChannel is closed, with a warning, and its peer is told the end',
    async run() {
      const [here] = forget(() => DmaBufChannel.pair().slice(1)) as [DmaBufChannel];
      await collectUntil(() => openHandles().length === 1, 'the other end is closed');
      assert.equal(await here.receive(), undefined);
      here.close();
    },
  },
  {
    name: 'a lost DmaBufServer is closed, with a warning, and its path is free',
    async run() {
      const path = socketPath();
      await lost(() => void DmaBufChannel.listen(path));
      DmaBufChannel.listen(path).close();
      assert.equal(existsSync(path), false);
    },
  },
  {
    name: 'hundreds more of each are closed without another word',
    async run() {
      const buffer = allocateSync(size);
      for (let round = 0; round < 3; round++) {
        forget(() => {
          for (let index = 0; index < 100; index++) {
            buffer.dup();
            buffer.exportSyncFile('read');
            DmaHeap.open('system');
            DmaBufChannel.pair();
            DmaBufChannel.listen(`@dmabuf-flood-${process.pid}-${round}-${index}`);
          }
        });
        await collectUntil(() => openHandles().length === 1, 'all but one object are closed');
      }
      buffer.close();
      assert.equal(bufferFds(), 0);
    },
  },
  {
    name: 'what was lost is closed though objects that were closed are still held',
    async run() {
      const closed = forget(() => {
        const [here, there] = DmaBufChannel.pair();
        const heap = DmaHeap.open('system');
        const buffer = heap.allocateSync(size);
        const file = buffer.exportSyncFile('read');
        const server = DmaBufChannel.listen(socketPath());
        const objects = [here, there, heap, buffer, file, server];
        for (const object of objects) object.close();
        return objects;
      });
      await lost(() => {
        for (let index = 0; index < 10; index++) {
          DmaBufChannel.pair();
          allocateSync(size);
        }
      });
      for (const object of closed) assert.equal(object.closed, true);
    },
  },
  {
    name: 'a pool that was lost with idle buffers gives them back',
    run: () =>
      lost(async () => {
        const pool = new DmaBufPool(size, { idleTimeout: 0 });
        (await pool.acquire()).release();
      }),
  },
];
