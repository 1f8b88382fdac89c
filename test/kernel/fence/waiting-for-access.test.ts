import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { allocateSync, type DmaBuf, type WaitOptions } from 'dmabuf';
import { openFds } from '../../support/descriptors.js';
import { ticks, turns, until, watch } from '../../support/event-loop.js';
import { assertCode, rejectsWith } from '../../support/expect.js';
import { addFence, type Fence, fenceTest } from '../../support/fences.js';
import { kernelTest } from '../../support/kernel-test.js';

fenceTest('withCpuAccess calls its function only when the device is done', async () => {
  using buffer = allocateSync(4096);
  using fence = addFence(buffer, 'write');
  let called = 0;
  const result = buffer.withCpuAccess('read', () => ++called);
  await ticks(5);
  assert.equal(called, 0);
  fence.signal();
  assert.equal(await result, 1);
});

fenceTest('withCpuAccess whose wait is aborted never calls its function', async () => {
  using buffer = allocateSync(4096);
  using fence = addFence(buffer, 'write');
  const controller = new AbortController();
  const result = buffer.withCpuAccess('read', () => assert.fail('called'), { signal: controller.signal });
  controller.abort('no');
  await rejectsWith(result, 'no');
  fence.signal();
  await turns();
});

fenceTest('withCpuAccess is under access until the promise of its function settles', async () => {
  using buffer = allocateSync(4096);
  using fence = addFence(buffer, 'write');
  let finish: (value: string) => void = assert.fail;
  const result = buffer.withCpuAccess('write', (bytes) => {
    bytes[0] = 42;
    return new Promise<string>((resolve) => {
      finish = resolve;
    });
  });
  fence.signal();
  await until(() => finish !== assert.fail);
  const watched = watch(result);
  await turns();
  assert.equal(watched.state, 'pending');
  finish('done');
  assert.equal(await result, 'done');
  const bytes = new Uint8Array(1);
  buffer.read(bytes);
  assert.equal(bytes[0], 42);
});

kernelTest('withCpuAccess rejects with what its function throws', async () => {
  using buffer = allocateSync(4096);
  const thrown = new Error('of the function');
  await rejectsWith(
    buffer.withCpuAccess('read', () => {
      throw thrown;
    }),
    thrown,
  );
  await rejectsWith(
    buffer.withCpuAccess('read', async () => {
      throw thrown;
    }),
    thrown,
  );
});

fenceTest('read() throws EAGAIN at once while a device writes, and says how to wait', () => {
  using buffer = allocateSync(4096);
  using fence = addFence(buffer, 'write');
  const bytes = new Uint8Array(4).fill(7);
  assert.throws(
    () => buffer.read(bytes),
    (error) => {
      assertCode(error, 'EAGAIN');
      assert.match(error.message, /await .*ready\(/);
      return true;
    },
  );
  assert.deepEqual(bytes, new Uint8Array(4).fill(7));
  fence.signal(); // which fails if read() waited
  assert.equal(buffer.read(bytes), 4);
});

fenceTest('read() does not mind a device that reads', () => {
  using buffer = allocateSync(4096);
  using fence = addFence(buffer, 'read');
  assert.equal(buffer.read(new Uint8Array(4)), 4);
  fence.signal();
});

for (const access of ['read', 'write'] as const) {
  fenceTest(`write() throws EAGAIN at once while a device ${access}s, and copies nothing`, () => {
    using buffer = allocateSync(4096);
    using fence = addFence(buffer, access);
    assert.throws(
      () => buffer.write(new Uint8Array(4).fill(7)),
      (error) => {
        assertCode(error, 'EAGAIN');
        assert.match(error.message, /await .*ready\(/);
        return true;
      },
    );
    fence.signal(); // which fails if write() waited
    const bytes = new Uint8Array(4);
    buffer.read(bytes);
    assert.deepEqual(bytes, new Uint8Array(4));
    assert.equal(buffer.write(bytes), 4);
  });
}

fenceTest('an access in one direction can be waited for while another is open', async () => {
  using buffer = allocateSync(4096);
  using reading = buffer.cpuAccessSync('read');
  using fence = addFence(buffer, 'write');
  const waiting = buffer.cpuAccess('write');
  fence.signal();
  const writing = await waiting;
  writing.bytes[0] = 9;
  assert.equal(reading.bytes[0], 9);
  writing.end();
});

fenceTest('waits for both directions settle each at its own time', async () => {
  using buffer = allocateSync(4096);
  using reading = addFence(buffer, 'read');
  const write = watch(buffer.ready('write'));
  const read = watch(buffer.ready('read'));
  await until(() => read.state === 'fulfilled');
  assert.equal(write.state, 'pending');
  reading.signal();
  await until(() => write.state === 'fulfilled');
});

fenceTest('a wait sees through to the last fence when new ones come before it looks', async () => {
  using buffer = allocateSync(4096);
  const watched = watch(buffer.ready('write'));
  await until(() => watched.state === 'fulfilled');
  using first = addFence(buffer, 'read');
  const waiting = watch(buffer.ready('write'));
  using second = addFence(buffer, 'read');
  first.signal();
  await ticks(5);
  assert.equal(waiting.state, 'pending');
  second.signal();
  await until(() => waiting.state === 'fulfilled');
});

/** A fence that comes between the end of the wait and START: cpuAccess waits again. */
async function inSecondWait(
  buffer: DmaBuf,
  options: WaitOptions,
  then: (fence: Fence, access: ReturnType<typeof watch>, promise: Promise<unknown>) => Promise<void>,
): Promise<void> {
  const first = addFence(buffer, 'write');
  let second: Fence | undefined;
  const addAnother = (): void => {
    second ??= addFence(buffer, 'write');
  };
  // Waits for one buffer end in the same turn; the kernel decides in which order. The first one makes it busy.
  const before = Array.from({ length: 5 }, () => buffer.ready('write').then(addAnother));
  const promise = buffer.cpuAccess('write', options).then((access) => access.end());
  const access = watch(promise);
  const after = Array.from({ length: 5 }, () => buffer.ready('write').then(addAnother));
  first.signal();
  await Promise.all([...before, ...after]);
  using fence = second as unknown as Fence;
  await ticks(10);
  assert.equal(access.state, 'pending', 'the second fence came too late: this showed nothing');
  await then(fence, access, promise);
}

fenceTest('cpuAccess does not block when a fence comes between the wait and START', async () => {
  using buffer = allocateSync(4096);
  await inSecondWait(buffer, {}, async (fence, access) => {
    fence.signal(); // which fails if START slept on this thread
    await until(() => access.state === 'fulfilled');
  });
});

fenceTest('cpuAccess that waits for a second fence can be aborted', async () => {
  using buffer = allocateSync(4096);
  const fds = openFds().size;
  const controller = new AbortController();
  await inSecondWait(buffer, { signal: controller.signal }, async (fence, access) => {
    controller.abort('late');
    await turns(1);
    assert.deepEqual(access, { state: 'rejected', value: 'late' });
    fence.signal();
    await buffer.ready('write');
    await buffer.withCpuAccess('write', () => {});
  });
  await until(() => openFds().size === fds); // A thread that slept in START holds a descriptor until it is back.
});

fenceTest('cpuAccess that waits for a second fence times out', async () => {
  using buffer = allocateSync(4096);
  const fds = openFds().size;
  // Longer than a busy machine takes to get there; the kernel gives fences up after 10 s.
  await inSecondWait(buffer, { timeout: 4000 }, async (fence, _access, promise) => {
    const error = await promise.catch((reason: unknown) => reason);
    assertCode(error, 'ETIMEDOUT');
    fence.signal();
  });
  await until(() => openFds().size === fds);
});

for (const method of ['close', 'release'] as const) {
  fenceTest(`cpuAccess that waits for a second fence rejects when its buffer is ${method}d`, async () => {
    const fds = openFds().size;
    const buffer = allocateSync(4096);
    await inSecondWait(buffer, {}, async (fence, access) => {
      const fd = buffer[method]();
      await turns(1);
      assert.equal(access.state, 'rejected');
      assertCode(access.value, 'ERR_DMABUF_CLOSED');
      fence.signal();
      if (fd !== undefined) closeSync(fd);
    });
    await until(() => openFds().size === fds);
  });
}
