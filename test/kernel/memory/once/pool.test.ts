import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { DmaBufPool, type PooledBuffer } from 'dmabuf';
import { ticks, turns, until, watch } from '../../../support/event-loop.js';
import { assertCode, rejectsCode, rejectsWith, throwsCode, unsound } from '../../../support/expect.js';
import { addFence, fenceTest } from '../../../support/fences.js';
import { kernelTest } from '../../../support/kernel-test.js';

const size = 8192;

function release(loans: readonly PooledBuffer[]): void {
  for (const loan of loans) loan.release();
}

kernelTest('a loan is a buffer of the size asked for, rounded up to pages', async () => {
  using pool = new DmaBufPool(5000, { name: 'pooled' });
  using loan = await pool.acquire();
  assert.deepEqual([pool.size, loan.buffer.size, loan.buffer.info().name], [5000, 8192, 'pooled']);
});

kernelTest('what is given back is handed out again', async () => {
  using pool = new DmaBufPool(size);
  const first = await pool.acquire();
  const { inode } = first.buffer;
  first.release();
  using second = await pool.acquire();
  assert.equal(second.buffer.inode, inode);
  assert.notEqual(second, first);
  const { allocated, reused } = pool.statistics();
  assert.deepEqual({ allocated, reused }, { allocated: 1, reused: 1 });
});

kernelTest('using gives back', async () => {
  using pool = new DmaBufPool(size);
  {
    using loan = await pool.acquire();
    assert.equal(loan.released, false);
    assert.equal(pool.statistics().inUse, 1);
  }
  assert.deepEqual([pool.statistics().inUse, pool.statistics().idle], [0, 1]);
});

kernelTest('giving back twice does nothing the second time', async () => {
  using pool = new DmaBufPool(size, { max: 1 });
  const first = await pool.acquire();
  first.release();
  assert.equal(first.released, true);
  using second = await pool.acquire();
  first.release();
  first[Symbol.dispose]();
  assert.deepEqual([pool.statistics().inUse, pool.statistics().idle], [1, 0]);
  assert.equal(second.buffer.closed, false);
});

kernelTest('a loan that was returned no longer has a buffer, since its next user has it', async () => {
  using pool = new DmaBufPool(size);
  const first = await pool.acquire();
  first.release();
  using second = await pool.acquire();
  throwsCode(() => first.buffer, 'ERR_DMABUF_CLOSED');
  assert.equal(second.buffer.closed, false);
  assert.equal(inspect(first).includes('released: true'), true);
});

kernelTest('there are never more than max buffers, and the next call waits', async () => {
  using pool = new DmaBufPool(size, { max: 3 });
  const loans = await Promise.all([pool.acquire(), pool.acquire(), pool.acquire()]);
  assert.equal(new Set(loans.map(({ buffer }) => buffer.inode)).size, 3);
  const next = watch(pool.acquire());
  await turns(20);
  assert.equal(next.state, 'pending');
  assert.deepEqual(pool.statistics(), { inUse: 3, idle: 0, waiting: 1, allocated: 3, reused: 0, trimmed: 0 });
  const { buffer } = loans[1];
  loans[1].release();
  await until(() => next.state === 'fulfilled');
  assert.equal((next.value as PooledBuffer).buffer, buffer);
  release([loans[0], loans[2], next.value as PooledBuffer]);
});

kernelTest('many at once get no more than max buffers', async () => {
  using pool = new DmaBufPool(size, { max: 4 });
  let out = 0;
  let most = 0;
  await Promise.all(
    Array.from({ length: 200 }, async () => {
      using _loan = await pool.acquire();
      most = Math.max(most, ++out);
      await turns(1);
      out--;
    }),
  );
  assert.equal(most, 4);
  const { allocated, inUse, idle, waiting } = pool.statistics();
  assert.deepEqual({ allocated, inUse, idle, waiting }, { allocated: 4, inUse: 0, idle: 4, waiting: 0 });
});

kernelTest('who waits is served in the order of the calls', async () => {
  using pool = new DmaBufPool(size, { max: 1 });
  const first = await pool.acquire();
  const served: number[] = [];
  const all = Array.from({ length: 20 }, async (_, number) => {
    using _loan = await pool.acquire();
    served.push(number);
  });
  first.release();
  await Promise.all(all);
  assert.deepEqual(served, [...Array(20).keys()]);
});

kernelTest('a call does not overtake those that wait', async () => {
  using pool = new DmaBufPool(size, { max: 1 });
  const first = await pool.acquire();
  const waiting = pool.acquire();
  first.release();
  const late = watch(pool.acquire());
  const second = await waiting;
  await turns();
  assert.equal(late.state, 'pending');
  second.release();
  await until(() => late.state === 'fulfilled');
  (late.value as PooledBuffer).release();
});

kernelTest('a call that waits can be aborted, and the next in line is served', async () => {
  using pool = new DmaBufPool(size, { max: 1 });
  const loan = await pool.acquire();
  const controller = new AbortController();
  const aborted = pool.acquire({ signal: controller.signal });
  const next = pool.acquire();
  controller.abort('mine');
  await rejectsWith(aborted, 'mine');
  assert.equal(pool.statistics().waiting, 1);
  loan.release();
  (await next).release();
});

kernelTest('a signal that had aborted takes nothing out', async () => {
  using pool = new DmaBufPool(size);
  await rejectsWith(pool.acquire({ signal: AbortSignal.abort('before') }), 'before');
  assert.deepEqual([pool.statistics().inUse, pool.statistics().waiting], [0, 0]);
});

kernelTest('a call that waits too long rejects with ETIMEDOUT and leaves the line', async () => {
  using pool = new DmaBufPool(size, { max: 1 });
  using _loan = await pool.acquire();
  async function namedCaller(): Promise<void> {
    await pool.acquire({ timeout: 5 });
  }
  const { stack = '', hint = '' } = await rejectsCode(namedCaller, 'ETIMEDOUT');
  assert.match(stack, /at (async )?namedCaller /);
  assert.match(
    hint,
    /1 of the pool's 1 buffers \(max\) .* on loan, 0 are still used by devices.*statistics\(\).*openHandles\(\)/,
  );
  assert.equal(pool.statistics().waiting, 0);
});

kernelTest('what comes for a call that was aborted stays for the next', async () => {
  using pool = new DmaBufPool(size, { max: 1 });
  const controller = new AbortController();
  const aborted = pool.acquire({ signal: controller.signal });
  controller.abort('mine');
  await rejectsWith(aborted, 'mine');
  await until(() => pool.statistics().idle === 1);
  using _loan = await pool.acquire();
  assert.equal(pool.statistics().allocated, 1);
});

fenceTest('a buffer that a device uses is not handed out: another that is idle is', async () => {
  using pool = new DmaBufPool(size, { max: 2 });
  const [busy, idle] = await Promise.all([pool.acquire(), pool.acquire()]);
  using _fence = addFence(busy.buffer, 'read'); // the device only reads: the next user may write
  const { buffer } = idle;
  release([busy, idle]);
  using loan = await pool.acquire();
  assert.equal(loan.buffer, buffer);
});

fenceTest('below max, a new buffer is allocated rather than waited for', async () => {
  using pool = new DmaBufPool(size, { max: 2 });
  const busy = await pool.acquire();
  const { buffer } = busy;
  using _fence = addFence(buffer, 'write');
  busy.release();
  using loan = await pool.acquire();
  assert.notEqual(loan.buffer, buffer);
  assert.equal(pool.statistics().allocated, 2);
});

for (const access of ['read', 'write'] as const) {
  fenceTest(`at max, a call waits until a device that ${access}s is done`, async () => {
    using pool = new DmaBufPool(size, { max: 1 });
    const busy = await pool.acquire();
    const { buffer } = busy;
    using fence = addFence(buffer, access);
    busy.release();
    const next = watch(pool.acquire());
    await ticks(5);
    assert.equal(next.state, 'pending');
    fence.signal();
    await until(() => next.state === 'fulfilled');
    assert.equal((next.value as PooledBuffer).buffer, buffer);
    (next.value as PooledBuffer).release();
  });
}

fenceTest('a call that waits for a device takes what is given back first', async () => {
  using pool = new DmaBufPool(size, { max: 2 });
  const [busy, out] = await Promise.all([pool.acquire(), pool.acquire()]);
  using _fence = addFence(busy.buffer, 'write');
  busy.release();
  const next = pool.acquire();
  const { buffer } = out;
  out.release();
  using loan = await next;
  assert.equal(loan.buffer, buffer);
});

fenceTest('two calls get the two buffers that devices finish at once', async () => {
  using pool = new DmaBufPool(size, { max: 2 });
  const loans = await Promise.all([pool.acquire(), pool.acquire()]);
  const fences = loans.map(({ buffer }) => addFence(buffer, 'write'));
  release(loans);
  const first = pool.acquire();
  await turns();
  for (const fence of fences) fence.signal();
  // Both buffers are ready, and the pool has not heard of it: this call finds one for itself.
  const second = pool.acquire({ signal: new AbortController().signal });
  const got = await Promise.all([first, second]);
  assert.equal(new Set(got.map(({ buffer }) => buffer)).size, 2);
  release(got);
  const { inUse, idle, waiting } = pool.statistics();
  assert.deepEqual({ inUse, idle, waiting }, { inUse: 0, idle: 2, waiting: 0 });
});

fenceTest('a dozen busy buffers are waited for without a word', async () => {
  const warnings: Error[] = [];
  const listen = (warning: Error): void => void warnings.push(warning);
  process.on('warning', listen);
  using pool = new DmaBufPool(4096, { max: 12 });
  const loans = await Promise.all(Array.from({ length: 12 }, () => pool.acquire()));
  const fences = loans.map(({ buffer }) => addFence(buffer, 'write'));
  release(loans);
  const next = Array.from({ length: 12 }, () => pool.acquire());
  await turns();
  for (const fence of fences) fence.signal();
  release(await Promise.all(next));
  await turns();
  process.off('warning', listen);
  assert.deepEqual(warnings, []);
});

fenceTest('a device that is done after its call was aborted leaves the buffer to the next', async () => {
  using pool = new DmaBufPool(size, { max: 1 });
  const busy = await pool.acquire();
  const { buffer } = busy;
  using fence = addFence(buffer, 'write');
  busy.release();
  const controller = new AbortController();
  const aborted = pool.acquire({ signal: controller.signal });
  controller.abort('mine');
  await rejectsWith(aborted, 'mine');
  const next = pool.acquire();
  fence.signal();
  using loan = await next;
  assert.equal(loan.buffer, buffer);
});

for (const zero of [false, true]) {
  kernelTest(`with zero: ${zero}, contents ${zero ? 'are gone' : 'stay'} for the next user`, async () => {
    using pool = new DmaBufPool(size, { max: 1, zero });
    const first = await pool.acquire();
    first.buffer.withCpuAccessSync('write', (bytes) => void bytes.fill(7));
    first.release();
    using second = await pool.acquire();
    assert.ok(
      second.buffer.withCpuAccessSync('read', (bytes) => bytes.every((byte) => byte === (zero ? 0 : 7))),
    );
  });
}

kernelTest('trim gives back what is idle, down to min', async () => {
  using pool = new DmaBufPool(size, { max: 4, min: 1 });
  const loans = await Promise.all(Array.from({ length: 4 }, () => pool.acquire()));
  const buffers = loans.map(({ buffer }) => buffer);
  const [kept, ...gone] = loans as [PooledBuffer, ...PooledBuffer[]];
  release(gone);
  assert.equal(pool.trim(), 3);
  assert.deepEqual(
    buffers.map(({ closed }) => closed),
    [false, true, true, true],
  );
  kept.release();
  assert.equal(pool.trim(), 0);
  const { idle, inUse, trimmed } = pool.statistics();
  assert.deepEqual({ idle, inUse, trimmed }, { idle: 1, inUse: 0, trimmed: 3 });
});

kernelTest('what has been idle for idleTimeout goes by itself, and what is out stays', async () => {
  using pool = new DmaBufPool(size, { max: 3, idleTimeout: 1 });
  const loans = await Promise.all([pool.acquire(), pool.acquire(), pool.acquire()]);
  release(loans.slice(1));
  while (pool.statistics().trimmed < 2) await ticks(1);
  assert.deepEqual([pool.statistics().idle, pool.statistics().inUse, loans[0].buffer.closed], [0, 1, false]);
  loans[0].release();
});

kernelTest('idleTimeout leaves min buffers', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const real = performance.now();
  let later = 0;
  t.mock.method(performance, 'now', () => real + later);
  using pool = new DmaBufPool(size, { max: 3, min: 2, idleTimeout: 1000 });
  release(await Promise.all([pool.acquire(), pool.acquire(), pool.acquire()]));
  later = 999;
  t.mock.timers.tick(999);
  assert.equal(pool.statistics().idle, 3);
  later = 1000;
  t.mock.timers.tick(1);
  assert.equal(pool.statistics().idle, 2);
  later = 10_000;
  t.mock.timers.tick(9000);
  assert.equal(pool.statistics().idle, 2);
});

kernelTest('idleTimeout 0 keeps everything', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  using pool = new DmaBufPool(size, { idleTimeout: 0 });
  (await pool.acquire()).release();
  t.mock.timers.tick(2 ** 31 - 1);
  assert.equal(pool.statistics().idle, 1);
});

kernelTest('a pool that was busy once and is used a little gives back what it does not need', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const real = performance.now();
  let later = 0;
  t.mock.method(performance, 'now', () => real + later);
  using pool = new DmaBufPool(size, { max: 4, idleTimeout: 1000 });
  release(await Promise.all(Array.from({ length: 4 }, () => pool.acquire())));
  // One buffer is enough from now on: the same one.
  for (let step = 0; step < 30; step++) {
    later += 100;
    (await pool.acquire()).release();
    t.mock.timers.tick(100);
  }
  assert.equal(pool.statistics().idle, 1);
});

kernelTest('close closes what is idle at once, and what is out when it is given back', async () => {
  const pool = new DmaBufPool(size, { max: 2 });
  const [out, idle] = await Promise.all([pool.acquire(), pool.acquire()]);
  const [lent, kept] = [out.buffer, idle.buffer];
  idle.release();
  pool.close();
  assert.deepEqual([pool.closed, kept.closed, lent.closed], [true, true, false]);
  lent.withCpuAccessSync('write', (bytes) => void bytes.fill(1));
  out.release();
  assert.equal(lent.closed, true);
  pool.close();
});

kernelTest('close rejects who waits, and later calls', async () => {
  const pool = new DmaBufPool(size, { max: 1 });
  const loan = await pool.acquire();
  const waiting = [pool.acquire(), pool.acquire()];
  pool.close();
  for (const outcome of await Promise.allSettled(waiting)) {
    assertCode((outcome as PromiseRejectedResult).reason, 'ERR_DMABUF_CLOSED');
  }
  await rejectsCode(() => pool.acquire(), 'ERR_DMABUF_CLOSED');
  assert.equal(pool.statistics().waiting, 0);
  loan.release();
});

kernelTest('close while a buffer is being allocated leaves nothing behind', async () => {
  const pool = new DmaBufPool(1 << 20);
  const waiting = pool.acquire();
  pool.close();
  await rejectsCode(() => waiting, 'ERR_DMABUF_CLOSED');
  await until(() => pool.statistics().allocated === 1);
});

fenceTest('close while a call waits for a device leaves nothing behind', async () => {
  const pool = new DmaBufPool(size, { max: 1 });
  const busy = await pool.acquire();
  using fence = addFence(busy.buffer, 'write');
  busy.release();
  const waiting = pool.acquire();
  pool.close();
  await rejectsCode(() => waiting, 'ERR_DMABUF_CLOSED');
  fence.signal();
});

kernelTest('a buffer that its user closed makes room for another', async () => {
  using pool = new DmaBufPool(size, { max: 1 });
  const first = await pool.acquire();
  first.buffer.close();
  first.release();
  using second = await pool.acquire();
  assert.equal(second.buffer.closed, false);
  assert.equal(pool.statistics().allocated, 2);
});

kernelTest('a buffer that was closed after it was given back makes room for another', async () => {
  using pool = new DmaBufPool(size, { max: 1 });
  const first = await pool.acquire();
  const { buffer } = first;
  first.release();
  buffer.close();
  using second = await pool.acquire();
  assert.equal(second.buffer.closed, false);
});

fenceTest('a busy buffer that is closed after it was given back makes room for who waits', async () => {
  using pool = new DmaBufPool(size, { max: 1 });
  const first = await pool.acquire();
  const { buffer } = first;
  using _fence = addFence(buffer, 'write');
  first.release();
  const waiting = watch(pool.acquire());
  await turns();
  buffer.close();
  await until(() => waiting.state === 'fulfilled');
  (waiting.value as PooledBuffer).release();
});

kernelTest('an allocation that fails rejects its call with why', async () => {
  using pool = new DmaBufPool(size, { from: ['no-such-heap', 'nor-this'] });
  const { attempts = [] } = await rejectsCode(() => pool.acquire(), 'ERR_DMABUF_NO_SOURCE');
  assert.deepEqual(
    attempts.map(({ source, error }) => `${source} ${error.code}`),
    ['no-such-heap ENOENT', 'nor-this ENOENT'],
  );
  const { inUse, waiting, allocated } = pool.statistics();
  assert.deepEqual({ inUse, waiting, allocated }, { inUse: 0, waiting: 0, allocated: 0 });
});

kernelTest('when allocations fail, nobody waits for ever', async () => {
  using pool = new DmaBufPool(size, { max: 1, from: 'no-such-heap' });
  const all = Array.from({ length: 5 }, () => watch(pool.acquire()));
  await until(() => all.every(({ state }) => state === 'rejected'));
  for (const { value } of all) assertCode(value, 'ERR_DMABUF_NO_SOURCE');
});

const badPools: readonly [string, unknown[], string][] = [
  ['size 0', [0], 'ERR_OUT_OF_RANGE'],
  ['size as text', ['4096'], 'ERR_INVALID_ARG_TYPE'],
  ['options null', [4096, null], 'ERR_INVALID_ARG_TYPE'],
  ['max 0', [4096, { max: 0 }], 'ERR_OUT_OF_RANGE'],
  ['max 1.5', [4096, { max: 1.5 }], 'ERR_OUT_OF_RANGE'],
  ['max null', [4096, { max: null }], 'ERR_INVALID_ARG_TYPE'],
  ['min -1', [4096, { min: -1 }], 'ERR_OUT_OF_RANGE'],
  ['min above max', [4096, { min: 3, max: 2 }], 'ERR_OUT_OF_RANGE'],
  ['idleTimeout -1', [4096, { idleTimeout: -1 }], 'ERR_OUT_OF_RANGE'],
  ['idleTimeout 2^31', [4096, { idleTimeout: 2 ** 31 }], 'ERR_OUT_OF_RANGE'],
  ['idleTimeout Infinity', [4096, { idleTimeout: Number.POSITIVE_INFINITY }], 'ERR_OUT_OF_RANGE'],
  ['zero as a number', [4096, { zero: 1 }], 'ERR_INVALID_ARG_TYPE'],
  ['a name of 32 bytes', [4096, { name: 'x'.repeat(32) }], 'ERR_OUT_OF_RANGE'],
  ['an unknown access', [4096, { access: 'rw' }], 'ERR_OUT_OF_RANGE'],
  ['no source', [4096, { from: [] }], 'ERR_OUT_OF_RANGE'],
  ['unchecked as text', [4096, { unchecked: 'yes' }], 'ERR_INVALID_ARG_TYPE'],
];
for (const [what, args, code] of badPools) {
  kernelTest(`a pool cannot be made with ${what}`, () => {
    const Pool = unsound(DmaBufPool) as new (...args: unknown[]) => DmaBufPool;
    throwsCode(() => new Pool(...args), code);
  });
}

kernelTest('the methods of pool and loan need their own objects as this', async () => {
  using pool = new DmaBufPool(size);
  using loan = await pool.acquire();
  for (const object of [pool, loan]) {
    const { constructor: _, ...properties } = Object.getOwnPropertyDescriptors(Object.getPrototypeOf(object));
    for (const [name, property] of Object.entries(properties) as [string, PropertyDescriptor][]) {
      const method = (property.get ?? property.value) as (...args: unknown[]) => unknown;
      for (const self of [undefined, null, {}, loan.buffer]) {
        if (name === 'acquire') await rejectsCode(() => method.call(self), 'ERR_INVALID_THIS', name);
        else throwsCode(() => method.call(self), 'ERR_INVALID_THIS', name);
      }
    }
  }
});
