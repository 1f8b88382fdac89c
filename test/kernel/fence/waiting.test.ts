import assert from 'node:assert/strict';
import { type Access, allocateSync, DmaBuf, DmaBufError, type SyncFile, type WaitOptions } from 'dmabuf';
import { badOptions, badSignals, badTimeouts } from '../../support/bad-values.js';
import { leavesNothing, openFds } from '../../support/descriptors.js';
import { ticks, turns, until, watch } from '../../support/event-loop.js';
import { rejectsCode, rejectsWith, unsound } from '../../support/expect.js';
import { addFence, type Fence, fenceTest, signalAll } from '../../support/fences.js';
import { kernelTest } from '../../support/kernel-test.js';
import { withFullThreadPool } from '../../support/thread-pool.js';

/** The three ways to wait for a buffer. What they begin, they end. */
const waits: Record<string, (buffer: DmaBuf, access: Access, options?: WaitOptions) => Promise<void>> = {
  ready: (buffer, access, options) => buffer.ready(access, options),
  cpuAccess: async (buffer, access, options) => (await buffer.cpuAccess(access, options)).end(),
  withCpuAccess: (buffer, access, options) => buffer.withCpuAccess(access, () => {}, options),
};

const ways = Object.entries(waits);

const accesses: readonly Access[] = ['read', 'write', 'read-write'];

for (const [way, wait] of ways) {
  for (const access of accesses) {
    fenceTest(`${way}('${access}') waits for a device that writes`, async () => {
      using buffer = allocateSync(4096);
      using fence = addFence(buffer, 'write');
      const watched = watch(wait(buffer, access));
      await ticks(5);
      assert.equal(watched.state, 'pending');
      fence.signal();
      await until(() => watched.state === 'fulfilled');
    });
  }

  fenceTest(`${way}('read') does not wait for a device that reads`, async () => {
    using buffer = allocateSync(4096);
    using _fence = addFence(buffer, 'read');
    const watched = watch(wait(buffer, 'read'));
    await until(() => watched.state === 'fulfilled');
  });

  for (const access of ['write', 'read-write'] as const) {
    fenceTest(`${way}('${access}') waits for all devices that read`, async () => {
      using buffer = allocateSync(4096);
      using first = addFence(buffer, 'read');
      using second = addFence(buffer, 'read');
      const watched = watch(wait(buffer, access));
      first.signal();
      await ticks(5);
      assert.equal(watched.state, 'pending');
      second.signal();
      await until(() => watched.state === 'fulfilled');
    });
  }

  kernelTest(`${way} of an idle buffer is over in the same turn, without the thread pool`, async () => {
    using buffer = allocateSync(4096);
    await withFullThreadPool(async () => {
      for (const access of accesses) {
        const watched = watch(wait(buffer, access));
        await turns(1);
        assert.equal(watched.state, 'fulfilled');
      }
    });
  });

  fenceTest(`${way} lets an interval tick, and ends, while the thread pool is full`, async () => {
    using buffer = allocateSync(4096);
    using fence = addFence(buffer, 'write');
    await withFullThreadPool(async () => {
      const watched = watch(wait(buffer, 'write'));
      await ticks(20);
      assert.equal(watched.state, 'pending');
      fence.signal(); // which fails if the event loop was blocked: the kernel would have been first
      await until(() => watched.state === 'fulfilled');
    });
  });

  fenceTest(`${way} settles for every one of many that wait for one buffer`, async () => {
    using buffer = allocateSync(4096);
    using fence = addFence(buffer, 'write');
    const all = Array.from({ length: 200 }, (_, index) => wait(buffer, accesses[index % 3] as Access));
    fence.signal();
    await Promise.all(all);
  });

  kernelTest(`${way}, option timeout, refuses ${badTimeouts.length} kinds of bad values`, async () => {
    using buffer = allocateSync(4096);
    for (const [what, value, code] of badTimeouts) {
      await leavesNothing(() =>
        rejectsCode(() => wait(buffer, 'read', { timeout: unsound(value) }), code, what),
      );
    }
  });

  kernelTest(`${way}, option signal, refuses ${badSignals.length} kinds of bad values`, async () => {
    using buffer = allocateSync(4096);
    for (const [what, value, code] of badSignals) {
      await rejectsCode(() => wait(buffer, 'read', { signal: unsound(value) }), code, what);
    }
  });

  kernelTest(`${way}, options, refuses ${badOptions.length} kinds of bad values`, async () => {
    using buffer = allocateSync(4096);
    for (const [what, value, code] of badOptions) {
      await rejectsCode(() => wait(buffer, 'read', unsound(value)), code, what);
    }
  });

  kernelTest(`${way} rejects with the reason of a signal that had aborted, even when idle`, async () => {
    using buffer = allocateSync(4096);
    const reason = { a: 'reason of any kind' };
    await rejectsWith(wait(buffer, 'read', { signal: AbortSignal.abort(reason) }), reason);
  });

  fenceTest(`${way} rejects with the reason of a signal that had aborted, when busy`, async () => {
    using buffer = allocateSync(4096);
    using _fence = addFence(buffer, 'write');
    const reason = new Error('of my own');
    await rejectsWith(wait(buffer, 'read', { signal: AbortSignal.abort(reason) }), reason);
  });

  fenceTest(`${way} rejects with the very reason of the signal that aborts`, async () => {
    using buffer = allocateSync(4096);
    using _fence = addFence(buffer, 'write');
    const controller = new AbortController();
    const waiting = wait(buffer, 'write', { signal: controller.signal });
    const reason = Symbol('mine');
    setImmediate(() => controller.abort(reason));
    await rejectsWith(waiting, reason);
  });

  fenceTest(`${way} rejects with ETIMEDOUT, which says how long it waited`, async () => {
    using buffer = allocateSync(4096);
    using _fence = addFence(buffer, 'write');
    const error = await rejectsCode(() => wait(buffer, 'write', { timeout: 7 }), 'ETIMEDOUT');
    assert.match(error.message, /^ETIMEDOUT: .*7 ms/);
  });

  fenceTest(`${way} with timeout 0 gives up as soon as it has looked`, async () => {
    using buffer = allocateSync(4096);
    using _fence = addFence(buffer, 'write');
    await rejectsCode(() => wait(buffer, 'write', { timeout: 0 }), 'ETIMEDOUT');
  });

  fenceTest(`${way} that succeeds leaves no timer and no listener`, async () => {
    using buffer = allocateSync(4096);
    const fence = addFence(buffer, 'write');
    const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const before = timers();
    const { signal } = new AbortController();
    let listening = 0;
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = unsound((...args: Parameters<typeof addEventListener>) => {
      listening++;
      addEventListener.apply(signal, args);
    });
    signal.removeEventListener = unsound((...args: Parameters<typeof removeEventListener>) => {
      listening--;
      removeEventListener.apply(signal, args);
    });
    const waiting = wait(buffer, 'write', { signal, timeout: 1_000_000 });
    assert.deepEqual({ timers: timers() - before, listening }, { timers: 1, listening: 1 });
    fence.signal();
    await waiting;
    assert.deepEqual({ timers: timers() - before, listening }, { timers: 0, listening: 0 });
  });

  fenceTest(`${way} rejects when its buffer is closed`, async () => {
    const buffer = allocateSync(4096);
    using _fence = addFence(buffer, 'write');
    const waiting = wait(buffer, 'read');
    setImmediate(() => buffer.close());
    const error = await rejectsCode(() => waiting, 'ERR_DMABUF_CLOSED');
    assert.match(error.message, /DmaBuf/);
  });

  fenceTest(`${way} rejects when its buffer is released, and the descriptor lives on`, async () => {
    const buffer = allocateSync(4096);
    using fence = addFence(buffer, 'write');
    const waiting = wait(buffer, 'read');
    const fd = buffer.release();
    await rejectsCode(() => waiting, 'ERR_DMABUF_CLOSED');
    using again = DmaBuf.adopt(fd);
    fence.signal();
    await wait(again, 'read');
  });

  fenceTest(`${way} on a duplicate goes on when the other is closed`, async () => {
    const buffer = allocateSync(4096);
    using copy = buffer.dup();
    using fence = addFence(buffer, 'write');
    const watched = watch(wait(copy, 'read'));
    buffer.close();
    await turns();
    assert.equal(watched.state, 'pending');
    fence.signal();
    await until(() => watched.state === 'fulfilled');
  });

  fenceTest(`${way} rejects at once on a closed buffer`, async () => {
    const buffer = allocateSync(4096);
    buffer.close();
    await rejectsCode(() => wait(buffer, 'read'), 'ERR_DMABUF_CLOSED');
  });

  for (const ending of ['ETIMEDOUT', 'ERR_DMABUF_CLOSED'] as const) {
    fenceTest(`${way} shows in an error ${ending} where it was called`, async () => {
      using buffer = allocateSync(4096);
      using _fence = addFence(buffer, 'write');
      async function namedCaller(): Promise<void> {
        await wait(buffer, 'write', ending === 'ETIMEDOUT' ? { timeout: 1 } : {});
      }
      const waiting = namedCaller();
      if (ending === 'ERR_DMABUF_CLOSED') setImmediate(() => buffer.close());
      const { stack = '' } = await rejectsCode(() => waiting, ending);
      assert.match(stack, /at (async )?namedCaller .*waiting\.test/);
      assert.ok(stack.startsWith(`DmaBufError: ${ending}: `), stack);
    });
  }

  fenceTest(`one signal may end a thousand of ${way}`, async () => {
    using buffer = allocateSync(4096);
    using _fence = addFence(buffer, 'write');
    const controller = new AbortController();
    const { signal } = controller;
    const all = Array.from({ length: 1000 }, () => wait(buffer, 'read', { signal }));
    setImmediate(() => controller.abort('enough'));
    for (const outcome of await Promise.allSettled(all)) {
      assert.deepEqual(outcome, { status: 'rejected', reason: 'enough' });
    }
  });
}

/** A fence that is on all of them: one for each would take longer to make than vgem lets the first one live. */
function fenceOfAll(buffers: readonly DmaBuf[]): { fence: Fence; file: SyncFile } {
  using source = allocateSync(4096);
  const fence = addFence(source, 'write');
  const file = source.exportSyncFile('read');
  for (const buffer of buffers) buffer.importSyncFile(file, 'write');
  return { fence, file };
}

/** Four waits on each of `count` buffers; false when the kernel gave the fences up before they were signalled. */
async function waitForMany(count: number): Promise<boolean> {
  const buffers = Array.from({ length: count }, () => allocateSync(4096));
  const [half, rest] = [buffers.slice(0, count / 2), buffers.slice(count / 2)];
  const [first, second] = [fenceOfAll(half), fenceOfAll(rest)];
  const fds = openFds().size;
  const settled = new Map<DmaBuf, number>();
  const sum = (list: readonly DmaBuf[]): number =>
    list.reduce((total, buffer) => total + (settled.get(buffer) ?? 0), 0);
  const all = buffers.flatMap((buffer) =>
    [
      buffer.ready('read'),
      buffer.ready('write'),
      buffer.cpuAccess('read'),
      buffer.cpuAccess('read-write'),
    ].map(async (wait) => {
      (await wait)?.end();
      settled.set(buffer, (settled.get(buffer) ?? 0) + 1);
    }),
  );
  await turns();
  const seen = { settled: settled.size, descriptors: openFds().size - fds };
  const isInTime = first.file.status === 'active' && second.file.status === 'active';
  if (isInTime) {
    // One for each buffer and kind of access, and the set that watches them.
    assert.deepEqual(seen, { settled: 0, descriptors: 2 * count });
    // The first half is done: nobody else wakes up.
    first.fence.signal();
    await until(() => sum(half) === 2 * count);
    if (second.file.status === 'active') assert.equal(settled.size, count / 2);
  }
  for (const { fence, file } of [first, second]) {
    fence[Symbol.dispose]();
    file.close();
  }
  await Promise.all(all);
  await turns();
  assert.equal(openFds().size, fds - 2);
  for (const buffer of buffers) buffer.close();
  return isInTime;
}

fenceTest('4 000 waits on 1 000 buffers are pending at once and settle when their fences do', async () => {
  // On a busy machine the kernel may lose patience before all wait.
  for (let count = 1000; !(await waitForMany(count)); count = 2 * Math.floor(count / 4))
    assert.ok(count > 20, 'too slow for any');
});

fenceTest('waits of many SyncFiles settle when their fences do', async () => {
  const buffers = Array.from({ length: 300 }, () => allocateSync(4096));
  const fences = buffers.map((buffer) => addFence(buffer, 'write'));
  const files: SyncFile[] = buffers.map((buffer) => buffer.exportSyncFile('read'));
  const all = files.map((file) => file.wait());
  signalAll(fences);
  await Promise.all(all);
  for (const object of [...buffers, ...files]) object.close();
});

kernelTest('ETIMEDOUT and ERR_DMABUF_CLOSED are DmaBufErrors without errno', async () => {
  const buffer = allocateSync(4096);
  buffer.close();
  const error = await rejectsCode(() => buffer.ready('read'), 'ERR_DMABUF_CLOSED');
  assert.ok(error instanceof DmaBufError);
  assert.equal('errno' in error, false);
});
