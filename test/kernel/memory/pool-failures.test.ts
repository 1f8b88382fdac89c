// What a pool does when something fails: nobody waits for ever, and no buffer is lost.

import assert from 'node:assert/strict';
import { type DmaBuf, DmaBufPool, type PooledBuffer } from 'dmabuf';
import { turns } from '../../support/event-loop.js';
import { rejectsCode, rejectsWith, unsound } from '../../support/expect.js';
import { loseMemory } from '../../support/faults.js';
import { addFence, fenceTest } from '../../support/fences.js';
import { kernelTest } from '../../support/kernel-test.js';
import { endingSignals, thrownBySignals } from '../../support/odd-signals.js';

const size = 4096;

function fail(): never {
  throw new Error('mine');
}

/** The exporter no longer has the buffer's memory, and that was noticed: it cannot be cleared. */
function loseContents(buffer: DmaBuf): void {
  const { bytes } = buffer.map();
  loseMemory(buffer);
  assert.equal(bytes[0], 0);
}

kernelTest('a buffer that cannot be cleared makes room for a new one', async () => {
  using pool = new DmaBufPool(size, { max: 1, zero: true });
  const first = await pool.acquire();
  const { buffer } = first;
  loseContents(buffer);
  first.release();
  using second = await pool.acquire();
  assert.deepEqual([buffer.closed, second.buffer.closed], [true, false]);
  assert.equal(pool.statistics().allocated, 2);
});

kernelTest('a buffer that cannot be cleared makes room for who waits', async () => {
  using pool = new DmaBufPool(size, { max: 1, zero: true });
  const first = await pool.acquire();
  const waiting = pool.acquire();
  const { buffer } = first;
  loseContents(buffer);
  first.release();
  using second = await waiting;
  assert.notEqual(second.buffer, buffer);
});

kernelTest('a buffer that cannot be closed is served around', async () => {
  using pool = new DmaBufPool(size, { max: 2 });
  const [first, second] = await Promise.all([pool.acquire(), pool.acquire()]);
  const { buffer } = first;
  const { close } = buffer;
  buffer.close = fail;
  first.release();
  second.release();
  assert.equal(pool.trim(), 2);
  close.call(buffer);
  (await pool.acquire()).release();
});

fenceTest('a call right after one that was aborted is served when the device is done', async () => {
  using pool = new DmaBufPool(size, { max: 1 });
  const busy = await pool.acquire();
  const { buffer } = busy;
  using fence = addFence(buffer, 'write');
  busy.release();
  const controller = new AbortController();
  const aborted = pool.acquire({ signal: controller.signal });
  controller.abort('mine');
  const next = pool.acquire();
  await rejectsWith(aborted, 'mine');
  await turns();
  fence.signal();
  using loan = await next;
  assert.equal(loan.buffer, buffer);
});

for (const [what, make] of Object.entries(endingSignals)) {
  kernelTest(`a call with a signal ${what} leaves the line`, async () => {
    using pool = new DmaBufPool(size, { max: 1 });
    const first = await pool.acquire();
    await rejectsWith(pool.acquire({ signal: make() }), thrownBySignals);
    const next = pool.acquire();
    first.release();
    (await next).release();
    const { inUse, idle, waiting } = pool.statistics();
    assert.deepEqual({ inUse, idle, waiting }, { inUse: 0, idle: 1, waiting: 0 });
  });
}

kernelTest(
  'a loan that was given back while somebody waits may be trimmed: who waits gets another',
  async () => {
    using pool = new DmaBufPool(size, { max: 1 });
    const first = await pool.acquire();
    const waiting = pool.acquire();
    first.release();
    assert.equal(pool.trim(), 1);
    (await waiting).release();
  },
);

kernelTest('a signal that closes the pool while it is left settles its call and the others', async () => {
  const pool = new DmaBufPool(size, { max: 1 });
  const first = await pool.acquire();
  const signal = new AbortController().signal;
  signal.removeEventListener = () => pool.close();
  const served = pool.acquire({ signal });
  const other = pool.acquire();
  first.release();
  (await served).release();
  await rejectsCode(() => other, 'ERR_DMABUF_CLOSED');
});

for (const idleTimeout of [1000, 0.1, 1 / 3, 2 ** 31 - 1]) {
  for (const start of [0, 12_345.678_9, 1e9 + 0.1]) {
    kernelTest(`idle buffers go after ${idleTimeout} ms of a clock at ${start}, and no more`, async (t) => {
      t.mock.timers.enable({ apis: ['setTimeout'] });
      let now = start;
      t.mock.method(performance, 'now', () => now);
      using pool = new DmaBufPool(size, { idleTimeout });
      (await pool.acquire()).release();
      now = start + idleTimeout;
      t.mock.timers.tick(Math.ceil(idleTimeout));
      assert.equal(pool.statistics().idle, 0);
    });
  }
}

kernelTest('a buffer that came back later stays until its own time is over', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let now = 0;
  t.mock.method(performance, 'now', () => now);
  using pool = new DmaBufPool(size, { idleTimeout: 1000 });
  const [first, second] = await Promise.all([pool.acquire(), pool.acquire()]);
  const pass = (ms: number): number => {
    now += ms;
    t.mock.timers.tick(ms);
    return pool.statistics().idle;
  };
  first.release();
  pass(600);
  second.release();
  assert.deepEqual([pass(400), pass(599), pass(1)], [1, 1, 0]);
});

kernelTest('a clock whose timers are numbers will do', async (t) => {
  const { setTimeout } = globalThis;
  t.mock.method(
    globalThis,
    'setTimeout',
    unsound((...args: Parameters<typeof setTimeout>) => {
      const timer = setTimeout(...args).unref();
      return Number(timer);
    }),
  );
  using pool = new DmaBufPool(size);
  const loan: PooledBuffer = await pool.acquire({ timeout: 1000 });
  loan.release();
  assert.equal(pool.statistics().idle, 1);
});
