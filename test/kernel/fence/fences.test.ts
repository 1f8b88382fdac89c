import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { type Access, allocateSync, DmaBuf } from 'dmabuf';
import type { SignallerData } from '../../support/fence-signaller.js';
import { addFence, drmBufferFd, fenceDevice, fenceTest } from '../../support/fences.js';
import { kernelTest } from '../../support/kernel-test.js';

// What the kernel promises of fences on a buffer: the facts that igt's prime_busy and vgem_basic check.

const accesses: readonly Access[] = ['read', 'write', 'read-write'];

function readiness(buffer: DmaBuf): Record<string, boolean> {
  return Object.fromEntries(accesses.map((access) => [access, buffer.isReady(access)]));
}

const all = { read: true, write: true, 'read-write': true };
const none = { read: false, write: false, 'read-write': false };
const onlyRead = { read: true, write: false, 'read-write': false };

kernelTest('a buffer without fences is ready for everything', () => {
  using buffer = allocateSync(4096);
  assert.deepEqual(readiness(buffer), all);
});

fenceTest('a device that writes keeps readers and writers away', () => {
  using buffer = allocateSync(4096);
  using fence = addFence(buffer, 'write');
  assert.deepEqual(readiness(buffer), none);
  fence.signal();
  assert.deepEqual(readiness(buffer), all);
});

fenceTest('a device that reads keeps only writers away', () => {
  using buffer = allocateSync(4096);
  using fence = addFence(buffer, 'read');
  assert.deepEqual(readiness(buffer), onlyRead);
  fence.signal();
  assert.deepEqual(readiness(buffer), all);
});

fenceTest('a writer has to wait for every device that reads', () => {
  using buffer = allocateSync(4096);
  using first = addFence(buffer, 'read');
  using second = addFence(buffer, 'read');
  second.signal();
  assert.deepEqual(readiness(buffer), onlyRead);
  first.signal();
  assert.deepEqual(readiness(buffer), all);
});

fenceTest('fences are the buffer, not the descriptor: every duplicate has them', () => {
  using buffer = allocateSync(4096);
  using copy = buffer.dup();
  using imported = DmaBuf.import(buffer.fd);
  using fence = addFence(copy, 'write');
  assert.deepEqual([readiness(buffer), readiness(imported)], [none, none]);
  fence.signal();
  assert.deepEqual([readiness(buffer), readiness(imported)], [all, all]);
});

fenceTest('a fence on one buffer does not concern another', () => {
  using busy = allocateSync(4096);
  using idle = allocateSync(4096);
  using _fence = addFence(busy, 'write');
  assert.deepEqual([readiness(busy), readiness(idle)], [none, all]);
});

fenceTest('a buffer that has been waited for can become busy again', () => {
  using buffer = allocateSync(4096);
  for (let round = 0; round < 3; round++) {
    using fence = addFence(buffer, 'write');
    assert.deepEqual(readiness(buffer), none);
    fence.signal();
    assert.deepEqual(readiness(buffer), all);
  }
});

fenceTest('a buffer that a DRM device exported has fences as well', () => {
  using buffer = DmaBuf.adopt(drmBufferFd());
  assert.equal(buffer.info().exporter, 'drm');
  using fence = addFence(buffer, 'write');
  assert.deepEqual(readiness(buffer), none);
  fence.signal();
  assert.deepEqual(readiness(buffer), all);
});

fenceTest('a udmabuf has fences as well', () => {
  using buffer = allocateSync(4096, { from: 'udmabuf' });
  using fence = addFence(buffer, 'write');
  assert.deepEqual(readiness(buffer), none);
  fence.signal();
  assert.deepEqual(readiness(buffer), all);
});

/**
 * Has another thread signal a fence of a device that writes, once what blocks is about to run. The thread is there before
 * the fence, which the kernel signals by itself after ten seconds.
 */
async function whileSignalled(buffer: DmaBuf, block: () => void): Promise<void> {
  const shared = new Int32Array(new SharedArrayBuffer(8));
  const workerData: SignallerData = { fenceDevice: fenceDevice(), shared };
  const worker = new Worker(new URL('../../support/fence-signaller.js', import.meta.url), { workerData });
  const ended = once(worker, 'exit');
  await once(worker, 'message');
  const fence = addFence(buffer, 'write');
  Atomics.store(shared, 0, fence.number);
  Atomics.notify(shared, 0);
  block();
  assert.equal(Atomics.load(shared, 1), 1, 'it did not wait for the fence');
  await ended;
}

const blocking: Record<string, (buffer: DmaBuf) => void> = {
  "cpuAccessSync('read')": (buffer) => buffer.cpuAccessSync('read').end(),
  "cpuAccessSync('write')": (buffer) => buffer.cpuAccessSync('write').end(),
  "withCpuAccessSync('read')": (buffer) => buffer.withCpuAccessSync('read', () => {}),
  "withCpuAccessSync('read-write')": (buffer) => buffer.withCpuAccessSync('read-write', () => {}),
};
for (const [name, block] of Object.entries(blocking)) {
  fenceTest(`${name} sleeps until the device that writes is done`, async () => {
    using buffer = allocateSync(4096);
    await whileSignalled(buffer, () => block(buffer));
    assert.deepEqual(readiness(buffer), all);
  });
}

fenceTest("cpuAccessSync('read') does not wait for a device that reads", () => {
  using buffer = allocateSync(4096);
  using fence = addFence(buffer, 'read');
  buffer.cpuAccessSync('read').end();
  fence.signal(); // which fails if somebody waited for it
});
