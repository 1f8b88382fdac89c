import assert from 'node:assert/strict';
import { readlinkSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { allocateSync, type DmaBuf, DmaBufPool, type SyncFile } from 'dmabuf';
import { collectGarbage, collectUntil, turn, turns } from '../support/event-loop.js';
import { addFence, type Fence, noFences, signalAll } from '../support/fences.js';
import { bufferFds } from '../support/observe.js';
import type { Scenario } from './scenario.js';
import { endOf, messageOf } from './threads.js';
import type { WaitingData } from './waiting.worker.js';

/** Waits of each worker: four workers make 1 000. */
const waitsOfWorker = 250;

function busyBuffers(count: number): { buffers: DmaBuf[]; fences: Fence[] } {
  const buffers = Array.from({ length: count }, () => allocateSync(4096));
  return { buffers, fences: buffers.map((buffer) => addFence(buffer, 'write')) };
}

function startWaiting(buffers: readonly DmaBuf[], then: WaitingData['then']): Worker {
  const workerData: WaitingData = { fds: buffers.map(({ fd }) => fd), then };
  return new Worker(new URL('./waiting.worker.js', import.meta.url), {
    workerData,
    trackUnmanagedFds: false,
  });
}

/** Ends workers with 250 waits each, and checks that their descriptors are gone. */
async function endWorkers(
  workers: number,
  then: WaitingData['then'],
  end: (worker: Worker, fences: readonly Fence[]) => void,
  code: number,
): Promise<void> {
  for (let round = 0; round < workers; round++) {
    const { buffers, fences } = busyBuffers(waitsOfWorker);
    const worker = startWaiting(buffers, then);
    worker.on('error', (error) => assert.equal(error.message, 'as expected'));
    const ended = endOf(worker);
    assert.equal(await messageOf(worker), 'waiting');
    end(worker, fences);
    assert.equal(await ended, code);
    assert.equal(bufferFds(), waitsOfWorker);
    for (const fence of fences) fence[Symbol.dispose]();
    for (const buffer of buffers) buffer.close();
  }
}

/** Has nobody left who refers to what `make` made, but for what it returns. */
function forget<T>(make: () => T): T {
  return make();
}

const all: readonly Scenario[] = [
  {
    name: '1 000 waits are pending when their worker is terminated',
    run: () => endWorkers(4, 'stay', (worker) => void worker.terminate(), 1),
  },
  {
    name: '500 waits settle just before their worker is terminated',
    run: () =>
      endWorkers(
        2,
        'stay',
        (worker, fences) => {
          signalAll(fences);
          void worker.terminate();
        },
        1,
      ),
  },
  {
    name: '500 waits settle just after their worker is terminated',
    run: () =>
      endWorkers(
        2,
        'stay',
        (worker, fences) => {
          void worker.terminate();
          signalAll(fences);
        },
        1,
      ),
  },
  {
    name: '250 waits are pending when their worker calls process.exit()',
    run: () => endWorkers(1, 'process.exit', () => {}, 7),
  },
  {
    name: '250 waits are pending when their worker throws',
    run: () => endWorkers(1, 'throw', () => {}, 1),
  },
  {
    name: 'a pending wait keeps its worker alive until it is over',
    async run() {
      const { buffers, fences } = busyBuffers(10);
      const worker = startWaiting(buffers, 'end when they are over');
      const ended = endOf(worker);
      let alive = true;
      void ended.then(() => {
        alive = false;
      });
      assert.equal(await messageOf(worker), 'waiting');
      await turns(200);
      assert.equal(alive, true);
      const over = messageOf(worker);
      signalAll(fences);
      assert.equal(await over, 'over');
      assert.equal(await ended, 0);
      for (const buffer of buffers) buffer.close();
    },
  },
  {
    name: 'a wait goes on when nobody holds its buffer any more',
    async run() {
      const [fence, wait] = forget(() => {
        const buffer = allocateSync(4096);
        return [addFence(buffer, 'write'), buffer.ready('read')] as const;
      });
      for (let i = 0; i < 5; i++) {
        collectGarbage();
        await turn();
      }
      fence.signal();
      await wait;
      await collectUntil(() => bufferFds() === 0, 'the descriptor is closed');
    },
  },
  {
    name: 'a SyncFile collected without close() has its descriptor closed and warns once',
    async run() {
      const files: SyncFile[] = [];
      forget(() => {
        const buffer = allocateSync(4096);
        for (let i = 0; i < 10; i++) files.push(buffer.exportSyncFile('read'));
        buffer.close();
      });
      const fds = files.map(({ fd }) => fd);
      const open = (): number =>
        fds.filter((fd) => {
          try {
            return readlinkSync(`/proc/self/fd/${fd}`).includes('sync_file');
          } catch {
            return false;
          }
        }).length;
      assert.equal(open(), 10);
      files.length = 0;
      await collectUntil(() => open() === 0, 'the descriptors are closed');
    },
  },
  {
    name: 'a loan that was lost frees its place in the pool',
    async run() {
      const pool = new DmaBufPool(4096, { max: 1 });
      await (async () => {
        await pool.acquire();
      })();
      const next = pool.acquire();
      await collectUntil(() => pool.statistics().allocated === 2, 'the next call is served');
      (await next).release();
      pool.close();
    },
  },
];

export const scenarios: readonly Scenario[] = all.map((scenario) => ({ skip: noFences, ...scenario }));
