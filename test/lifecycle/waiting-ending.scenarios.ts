import assert from 'node:assert/strict';
import { allocate, allocateSync, type DmaBuf, DmaBufPool } from 'dmabuf';
import { ticks, turns } from '../support/event-loop.js';
import { addFence, type Fence, noFences, signalAll } from '../support/fences.js';
import type { Scenario } from './scenario.js';

/** What the process still refers to when it ends. */
const kept: unknown[] = [];

/** 1 000 waits of all kinds that are pending, and what ends them. */
function waitAll(): Fence[] {
  const buffers = Array.from({ length: 250 }, () => allocateSync(4096));
  const fences = buffers.map((buffer) => addFence(buffer, 'write'));
  for (const buffer of buffers) {
    kept.push(
      buffer,
      buffer.ready('read'),
      buffer.ready('write', { timeout: 1_000_000 }),
      buffer.cpuAccess('write'),
      buffer.exportSyncFile('write').wait(),
    );
  }
  return fences;
}

/** Has cpuAccess() wait for a second fence, which came when the first had signalled. */
async function waitTwice(buffer: DmaBuf): Promise<Fence> {
  const first = addFence(buffer, 'write');
  let second: Fence | undefined;
  const addAnother = (): void => {
    second ??= addFence(buffer, 'write');
  };
  const before = Array.from({ length: 5 }, () => buffer.ready('write').then(addAnother));
  kept.push(buffer.cpuAccess('write'));
  const after = Array.from({ length: 5 }, () => buffer.ready('write').then(addAnother));
  first.signal();
  await Promise.all([...before, ...after]);
  await ticks(5);
  return second as unknown as Fence;
}

const all: readonly Scenario[] = [
  {
    name: 'process.exit() while 1 000 waits are pending',
    run() {
      waitAll();
      process.exit(7);
    },
  },
  {
    name: 'process.exit() as 1 000 waits settle',
    async run() {
      const fences = waitAll();
      await turns();
      signalAll(fences);
      process.exit(7);
    },
  },
  {
    name: 'process.exit() in a wait that settles, before the others',
    async run() {
      const fences = waitAll();
      await turns();
      const buffer = allocateSync(4096);
      const fence = addFence(buffer, 'write');
      void buffer.ready('read').then(() => process.exit(7));
      fence.signal();
      signalAll(fences);
    },
  },
  {
    name: 'an exception that nobody catches while 1 000 waits are pending',
    run() {
      waitAll();
      setImmediate(() => {
        throw new Error('as expected');
      });
    },
  },
  {
    name: 'process.exit() while cpuAccess() waits for a second fence',
    async run() {
      const fence = await waitTwice(allocateSync(4096));
      // On a busy machine the kernel may have lost patience with the fence before.
      process.on('exit', () => fence[Symbol.dispose]());
      process.exit(7);
    },
  },
  {
    name: 'a pending wait keeps the process alive until its fence signals',
    run() {
      const buffer = allocateSync(4096);
      const fence = addFence(buffer, 'write');
      let over = false;
      // Nothing but the wait keeps this process alive: the timer that ends it does not count.
      setTimeout(() => fence.signal(), 20).unref();
      void buffer.ready('read').then(() => {
        over = true;
      });
      process.on('exit', () => {
        if (!over) process.exitCode = 9;
        kept.push(buffer);
      });
    },
  },
  {
    name: 'waits that were aborted or closed do not keep the process alive',
    run() {
      const buffer = allocateSync(4096);
      kept.push(buffer, addFence(buffer, 'write'));
      const controller = new AbortController();
      buffer.ready('read', { signal: controller.signal, timeout: 2 ** 31 - 1 }).catch(() => {});
      controller.abort();
      const closed = allocateSync(4096);
      kept.push(addFence(closed, 'write'));
      closed.ready('read', { timeout: 2 ** 31 - 1 }).catch(() => {});
      closed.close();
    },
  },
  {
    name: 'a wait of which nobody takes the rejection ends the process with its error',
    run() {
      const buffer = allocateSync(4096);
      kept.push(buffer, addFence(buffer, 'write'));
      void buffer.ready('read', { timeout: 1 });
    },
  },
  {
    name: 'a pool with an idle buffer and a loan does not keep the process alive',
    async run() {
      const pool = new DmaBufPool(4096, { idleTimeout: 2 ** 31 - 1 });
      const [idle, out] = await Promise.all([pool.acquire(), pool.acquire()]);
      idle.release();
      kept.push(pool, out);
      assert.deepEqual([pool.statistics().idle, pool.statistics().inUse], [1, 1]);
    },
  },
  {
    name: 'process.exit() while a pool allocates, waits and lends',
    async run() {
      const pool = new DmaBufPool(1 << 20, { max: 3 });
      const busy = await pool.acquire();
      kept.push(pool, addFence(busy.buffer, 'write'), await pool.acquire());
      busy.release();
      for (let i = 0; i < 5; i++) void pool.acquire();
      void allocate(1 << 20, { from: 'udmabuf' });
      process.exit(7);
    },
  },
];

export const scenarios: readonly Scenario[] = all.map((scenario) => ({ skip: noFences, ...scenario }));
