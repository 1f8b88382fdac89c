import assert from 'node:assert/strict';
import { tracingChannel } from 'node:diagnostics_channel';
import {
  allocate,
  allocateSync,
  closeHandles,
  type DmaBuf,
  DmaBufChannel,
  DmaBufPool,
  DmaHeap,
  openHandles,
  PooledBuffer,
  SyncFile,
  setHandleTracking,
} from 'dmabuf';
import { openFds } from '../../../support/descriptors.js';
import { until } from '../../../support/event-loop.js';
import { rejectsCode, throwsCode } from '../../../support/expect.js';
import { addFence, fenceTest } from '../../../support/fences.js';
import { kernelTest } from '../../../support/kernel-test.js';
import { order, tracesOf } from '../../../support/traces.js';

const size = 4096;

kernelTest('an allocation tells what was asked for, and the buffer', async () => {
  const options = { name: 'traced', from: ['no-such-heap', 'system'] };
  const { events, contexts } = await tracesOf('dmabuf:allocate', async () => {
    (await allocate(size, options)).close();
  });
  assert.deepEqual(events, order.async);
  const { result, ...context } = contexts[0] as { result: DmaBuf };
  assert.deepEqual(context, { operation: 'allocate', size, name: 'traced', sources: options.from });
  assert.equal(result.source, 'system');
  assert.equal(result.attempts[0]?.error.code, 'ENOENT');
});

kernelTest('an allocation that blocks tells the same by fewer events', async () => {
  const { events, contexts } = await tracesOf('dmabuf:allocate', () => {
    allocateSync(size, { from: 'udmabuf' }).close();
  });
  assert.deepEqual(events, order.sync);
  const { result, ...context } = contexts[0] as { result: DmaBuf };
  assert.deepEqual(context, { operation: 'allocateSync', size, name: undefined, sources: ['udmabuf'] });
  assert.equal(result.source, 'udmabuf');
});

kernelTest('a heap tells its own allocations, once each', async () => {
  using heap = DmaHeap.open('system');
  const { events, contexts } = await tracesOf('dmabuf:allocate', async () => {
    heap.allocateSync(size).close();
    (await heap.allocate(size)).close();
    (await allocate(size, { from: heap })).close();
  });
  assert.deepEqual(events, [...order.sync, ...order.async, ...order.async]);
  for (const { sources } of contexts) assert.deepEqual(sources, ['system']);
});

kernelTest('an allocation that fails tells its error, with that of each source', async () => {
  let thrown: unknown[] = [];
  const options = { from: ['no-such-heap', 'no-other-heap'] };
  const { events, contexts } = await tracesOf('dmabuf:allocate', async () => {
    thrown = [
      throwsCode(() => allocateSync(size, options), 'ERR_DMABUF_NO_SOURCE'),
      await rejectsCode(() => allocate(size, options), 'ERR_DMABUF_NO_SOURCE'),
    ];
  });
  assert.deepEqual(events, [...order.syncFailed, ...order.asyncFailed]);
  const errors = new Set(contexts.map(({ error }) => error as { attempts: { error: { code: string } }[] }));
  assert.deepEqual([...errors], thrown);
  for (const { attempts } of errors) {
    assert.deepEqual(
      attempts.map(({ error }) => error.code),
      ['ENOENT', 'ENOENT'],
    );
  }
});

kernelTest('an allocation that a signal ends tells its reason', async () => {
  const controller = new AbortController();
  const before = openFds().size;
  const { events, contexts } = await tracesOf('dmabuf:allocate', async () => {
    const outcome = allocate(size, { signal: controller.signal });
    controller.abort('enough');
    await outcome.catch(() => {});
  });
  assert.deepEqual(events, order.asyncFailed);
  assert.equal(contexts[0]?.error, 'enough');
  await until(() => openFds().size === before);
});

kernelTest('a pool tells what it allocates, and each call that acquires', async () => {
  using pool = new DmaBufPool(size);
  const acquire = async (): Promise<void> => (await pool.acquire({ timeout: 60_000 })).release();
  const allocated = await tracesOf('dmabuf:allocate', acquire);
  const { events, contexts } = await tracesOf('dmabuf:wait', acquire);
  assert.deepEqual([allocated.events, events], [order.async, order.async]);
  const { result, ...context } = contexts[0] as { result: unknown };
  assert.deepEqual(context, { operation: 'acquire', size, timeout: 60_000 });
  assert.ok(result instanceof PooledBuffer);
});

kernelTest('CPU access tells its beginning and its end', async () => {
  using buffer = allocateSync(size);
  const { inode } = buffer;
  const { events, contexts } = await tracesOf('dmabuf:access', async () => {
    buffer.cpuAccessSync('read-write').end();
    buffer.withCpuAccessSync('write', (bytes) => bytes.fill(7));
    (await buffer.cpuAccess('read')).end();
    await buffer.withCpuAccess('read', () => {});
  });
  assert.deepEqual(events, [
    ...[...order.sync, ...order.sync, ...order.sync, ...order.sync],
    ...[...order.async, ...order.sync, ...order.async, ...order.sync],
  ]);
  const told = [...new Set(contexts)].map(({ result: _, ...context }) => context);
  const both = (access: string): object[] =>
    ['begin', 'end'].map((operation) => ({ operation, access, inode, size }));
  assert.deepEqual(told, [...both('read-write'), ...both('write'), ...both('read'), ...both('read')]);
});

kernelTest('copies tell how much they copy', async () => {
  using buffer = allocateSync(size);
  const { inode } = buffer;
  const { events, contexts } = await tracesOf('dmabuf:access', () => {
    buffer.write(new Uint16Array(8), 16);
    buffer.read(new Uint8Array(100), size - 10);
    buffer.text({ length: 3 });
  });
  assert.deepEqual(events, [...order.sync, ...order.sync, ...order.sync]);
  const about = { inode, size, result: undefined };
  assert.deepEqual(
    [...new Set(contexts)],
    [
      { operation: 'write', access: 'write', ...about, length: 16 },
      { operation: 'read', access: 'read', ...about, length: 10 },
      { operation: 'read', access: 'read', ...about, length: 3 },
    ],
  );
});

kernelTest('CPU access that is refused tells the error', async () => {
  using buffer = allocateSync(size, { access: 'read' });
  let thrown: unknown[] = [];
  const { events, contexts } = await tracesOf('dmabuf:access', async () => {
    thrown = [
      throwsCode(() => buffer.cpuAccessSync('read'), 'EACCES'),
      await rejectsCode(() => buffer.cpuAccess('read'), 'EACCES'),
      throwsCode(() => buffer.write(new Uint8Array(1)), 'EACCES'),
    ];
  });
  assert.deepEqual(events, [...order.syncFailed, ...order.asyncFailed, ...order.syncFailed]);
  assert.deepEqual([...new Set(contexts.map(({ error }) => error))], thrown);
});

kernelTest('a wait that is over at once is told as well', async () => {
  using buffer = allocateSync(size);
  using file = buffer.exportSyncFile('read');
  using named = SyncFile.merge('both', file, file);
  const { inode } = buffer;
  const { events, contexts } = await tracesOf('dmabuf:wait', async () => {
    await buffer.ready('write', { timeout: 5000 });
    await named.wait();
  });
  assert.deepEqual(events, [...order.async, ...order.async]);
  assert.deepEqual(
    [...new Set(contexts)],
    [
      { operation: 'ready', access: 'write', inode, size, timeout: 5000, result: undefined },
      { operation: 'wait', name: named.info().name, timeout: undefined, result: undefined },
    ],
  );
});

fenceTest('a wait for a device is told at its beginning, and at its end', async () => {
  using buffer = allocateSync(size);
  using fence = addFence(buffer, 'write');
  using file = buffer.exportSyncFile('read');
  const { events } = await tracesOf('dmabuf:wait', async (told) => {
    const over = Promise.all([buffer.ready('read'), file.wait()]);
    assert.deepEqual(told.events, ['start', 'end', 'start', 'end']);
    fence.signal();
    await over;
  });
  assert.deepEqual(events.slice(4), ['asyncStart', 'asyncEnd', 'asyncStart', 'asyncEnd']);
});

fenceTest('CPU access that waits for a device is one trace, and no wait besides', async () => {
  using buffer = allocateSync(size);
  using fence = addFence(buffer, 'write');
  const waits = await tracesOf('dmabuf:wait', async () => {
    const { events } = await tracesOf('dmabuf:access', async (told) => {
      const access = buffer.cpuAccess('read');
      assert.deepEqual(told.events, ['start', 'end']);
      fence.signal();
      (await access).end();
    });
    assert.deepEqual(events, [...order.async, ...order.sync]);
  });
  assert.deepEqual(waits.events, []);
});

fenceTest('a wait that is given up tells why', async () => {
  using buffer = allocateSync(size);
  using _fence = addFence(buffer, 'write');
  let thrown: unknown;
  const { events, contexts } = await tracesOf('dmabuf:wait', async () => {
    thrown = await rejectsCode(() => buffer.ready('read', { timeout: 1 }), 'ETIMEDOUT');
  });
  assert.deepEqual(events, order.asyncFailed);
  assert.equal(contexts[0]?.error, thrown);
  assert.equal(contexts[0]?.timeout, 1);
});

kernelTest('a message tells the buffers by what the receiver knows them by', async () => {
  using buffer = allocateSync(size);
  const [here, there] = DmaBufChannel.pair();
  using _here = here;
  using _there = there;
  const { contexts } = await tracesOf('dmabuf:send', () => here.send('', [buffer, 0, buffer]));
  const { handles } = (await there.receive()) as { handles: unknown } as {
    handles: [DmaBuf, number, DmaBuf];
  };
  const [{ inodes, handles: count } = {}] = contexts;
  assert.deepEqual(inodes, [handles[0].inode, handles[2].inode]);
  assert.equal(count, 3);
  closeHandles([handles[0], handles[2], handles[1]]);
});

kernelTest('nobody is told anything who has left', async () => {
  using buffer = allocateSync(size);
  const names = ['dmabuf:allocate', 'dmabuf:access', 'dmabuf:wait', 'dmabuf:send'];
  const told = await Promise.all(names.map((name) => tracesOf(name, () => {})));
  buffer.cpuAccessSync('read').end();
  await buffer.ready('read');
  (await allocate(size)).close();
  for (const [index, { events }] of told.entries()) {
    assert.deepEqual(events, []);
    assert.equal(tracingChannel(names[index] as string).hasSubscribers, false);
  }
});

for (const [what, call] of Object.entries({
  cpuAccessSync: (buffer: DmaBuf) => throwsCode(() => buffer.cpuAccessSync('read'), 'ERR_DMABUF_CLOSED'),
  cpuAccess: (buffer: DmaBuf) => rejectsCode(() => buffer.cpuAccess('read'), 'ERR_DMABUF_CLOSED'),
  read: (buffer: DmaBuf) => throwsCode(() => buffer.read(new Uint8Array(4)), 'ERR_DMABUF_CLOSED'),
  write: (buffer: DmaBuf) => throwsCode(() => buffer.write(new Uint8Array(4)), 'ERR_DMABUF_CLOSED'),
})) {
  kernelTest(`${what} of a buffer that a subscriber closes throws`, async () => {
    using buffer = allocateSync(size);
    const { start } = tracingChannel('dmabuf:access');
    const close = (): void => buffer.close();
    start.subscribe(close);
    try {
      await call(buffer);
    } finally {
      start.unsubscribe(close);
    }
  });
}

kernelTest('the end of CPU access to a buffer that a subscriber closes is an end', () => {
  using buffer = allocateSync(size);
  const access = buffer.cpuAccessSync('write');
  const { start } = tracingChannel('dmabuf:access');
  const close = (): void => buffer.close();
  start.subscribe(close);
  try {
    access.end();
  } finally {
    start.unsubscribe(close);
  }
  assert.equal(buffer.closed, true);
});

kernelTest("where an object was made is the user's code, and not the way through Node.js", async () => {
  setHandleTracking(true);
  try {
    await tracesOf('dmabuf:allocate', () => {
      using buffer = allocateSync(size);
      const { madeAt = '' } = openHandles().find(({ inode }) => inode === buffer.inode) ?? {};
      assert.match(madeAt.split('\n')[0] ?? '', /tracing\.test\.js/);
    });
  } finally {
    setHandleTracking(false);
  }
});
