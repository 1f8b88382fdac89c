import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import { allocate, allocateSync, type DmaBuf, DmaHeap } from 'dmabuf';
import { leavesNothing, openFds } from '../../support/descriptors.js';
import { until } from '../../support/event-loop.js';
import { rejectsCode } from '../../support/expect.js';
import { kernelTest } from '../../support/kernel-test.js';

const tebibyte = 2 ** 40;

/** Each way to allocate, as a function of size and options. */
const ways: readonly [string, (heap: DmaHeap, size: number, options?: object) => DmaBuf | Promise<DmaBuf>][] =
  [
    ['allocateSync', (_, size, options) => allocateSync(size, options)],
    ['allocate', (_, size, options) => allocate(size, options)],
    ['DmaHeap.allocateSync', (heap, size, options) => heap.allocateSync(size, options)],
    ['DmaHeap.allocate', (heap, size, options) => heap.allocate(size, options)],
  ];

for (const [name, make] of ways) {
  kernelTest(`${name} rounds the size up to pages`, async () => {
    using heap = DmaHeap.open('system');
    using buffer = await make(heap, 5000);
    assert.equal(buffer.size, 8192);
  });

  kernelTest(`${name} gives the smallest buffer a page`, async () => {
    using heap = DmaHeap.open('system');
    using buffer = await make(heap, 1);
    assert.equal(buffer.size, 4096);
  });

  kernelTest(`${name} gives zeroed memory`, async () => {
    using heap = DmaHeap.open('system');
    {
      using dirty = await make(heap, 65536);
      dirty.write(new Uint8Array(65536).fill(0xff));
    }
    using buffer = await make(heap, 65536);
    const bytes = new Uint8Array(65536).fill(1);
    buffer.read(bytes);
    assert.ok(bytes.every((byte) => byte === 0));
  });

  kernelTest(`${name} names the buffer`, async () => {
    using heap = DmaHeap.open('system');
    using buffer = await make(heap, 4096, { name: 'frame-0' });
    assert.equal(buffer.info().name, 'frame-0');
  });

  kernelTest(`${name} leaves the buffer without a name by default`, async () => {
    using heap = DmaHeap.open('system');
    using buffer = await make(heap, 4096);
    assert.equal('name' in buffer.info(), false);
  });

  for (const [access, mode] of [
    ['read', 0],
    ['write', 1],
    ['read-write', 2],
  ] as const) {
    kernelTest(`${name} opens the descriptor for ${access}`, async () => {
      using heap = DmaHeap.open('system');
      using buffer = await make(heap, 4096, { access });
      assert.equal(buffer.info().flags & 3, mode);
    });
  }

  kernelTest(`${name} says which heap served`, async () => {
    using heap = DmaHeap.open('system');
    using buffer = await make(heap, 4096);
    assert.equal(buffer.source, 'system');
    assert.equal(buffer.info().exporter, 'system');
  });

  kernelTest(`${name} refuses a tebibyte, with both figures`, async () => {
    using heap = DmaHeap.open('system');
    const total = Number(/MemTotal: +(\d+)/.exec(readFileSync('/proc/meminfo', 'latin1'))?.[1]) * 1024;
    const error = await rejectsCode(async () => make(heap, tebibyte), 'ERR_DMABUF_MEMORY_GUARD');
    const [, asked, available] =
      /: (\d+) bytes were requested and (\d+) are available/.exec(error.message) ?? [];
    assert.equal(Number(asked), tebibyte);
    assert.ok(Number(available) > 0 && Number(available) <= total, error.message);
  });

  kernelTest(`${name} allocates without the memory guard`, async () => {
    using heap = DmaHeap.open('system');
    using buffer = await make(heap, 4096, { unchecked: true });
    assert.equal(buffer.size, 4096);
  });
}

for (const asynchronous of [false, true]) {
  const name = asynchronous ? 'allocate' : 'allocateSync';
  const make = async (from: string | DmaHeap | readonly (string | DmaHeap)[]): Promise<DmaBuf> =>
    asynchronous ? allocate(4096, { from }) : allocateSync(4096, { from });

  kernelTest(`${name} goes on to the next source`, async () => {
    using buffer = await make(['no-such-heap', '/dev/null', 'system']);
    assert.equal(buffer.source, 'system');
  });

  kernelTest(`${name} takes the first source that serves`, async () => {
    using buffer = await make(['system', '/dev/null/no-directory']);
    assert.equal(buffer.source, 'system');
  });

  kernelTest(`${name} takes a path`, async () => {
    using buffer = await make('/dev/dma_heap/system');
    assert.equal(buffer.source, 'system');
  });

  kernelTest(`${name} takes an open heap and leaves it open`, async () => {
    using heap = DmaHeap.open('system');
    (await make(heap)).close();
    assert.equal(heap.closed, false);
  });

  kernelTest(`${name} keeps no heap open when a later source fails`, async () => {
    await leavesNothing(async () => {
      (await make(['no-such-heap', 'system'])).close();
      await rejectsCode(() => make(['no-such-heap', '/dev/null']), 'ERR_DMABUF_NO_SOURCE');
    });
  });
}

kernelTest('allocating from many promises at once gives as many buffers', async () => {
  using heap = DmaHeap.open('system');
  const buffers = await Promise.all(
    Array.from({ length: 64 }, (_, index) => heap.allocate(4096 * (index + 1))),
  );
  assert.equal(new Set(buffers.map((buffer) => buffer.inode)).size, 64);
  assert.deepEqual(
    buffers.map((buffer) => buffer.size),
    buffers.map((_, index) => 4096 * (index + 1)),
  );
  for (const buffer of buffers) buffer.close();
});

kernelTest('a heap closed while it allocates still delivers', async () => {
  const heap = DmaHeap.open('system');
  const pending = heap.allocate(1 << 20, { name: 'late' });
  heap.close();
  using buffer = await pending;
  assert.equal(buffer.info().name, 'late');
});

kernelTest('a buffer outlives its heap', () => {
  const heap = DmaHeap.open('system');
  using buffer = heap.allocateSync(4096);
  heap.close();
  assert.equal(buffer.write(new Uint8Array([1])), 1);
});

const abortable: readonly [string, (heap: DmaHeap, signal: AbortSignal) => Promise<DmaBuf>][] = [
  ['allocate', (_, signal) => allocate(16 << 20, { signal })],
  ['DmaHeap.allocate', (heap, signal) => heap.allocate(16 << 20, { signal })],
];
for (const [name, start] of abortable) {
  kernelTest(`${name} rejects with the reason of a signal that had aborted`, async () => {
    using heap = DmaHeap.open('system');
    const reason = { why: 'too late' };
    await leavesNothing(() =>
      assert.rejects(start(heap, AbortSignal.abort(reason)), (error) => error === reason),
    );
  });

  kernelTest(`${name} rejects at once when the signal aborts`, async () => {
    using heap = DmaHeap.open('system');
    const fds = openFds().size;
    const controller = new AbortController();
    let rejection: unknown;
    start(heap, controller.signal).catch((error: unknown) => {
      rejection = error;
    });
    const reason = { why: 'no longer needed' };
    controller.abort(reason);
    // Only promise reactions run here: the event loop, which would bring the allocation, does not turn.
    for (let round = 0; round < 20; round++) await undefined;
    assert.equal(rejection, reason);
    await until(() => openFds().size === fds);
  });

  kernelTest(`${name} closes what the kernel delivers after the abort`, async () => {
    using heap = DmaHeap.open('system');
    const fds = openFds();
    const controller = new AbortController();
    const rejected = assert.rejects(start(heap, controller.signal), { name: 'AbortError' });
    controller.abort();
    await rejected;
    await until(() => openFds().size <= fds.size);
    assert.deepEqual(openFds(), fds);
  });

  kernelTest(`${name} leaves the buffer alone when the signal aborts afterwards`, async () => {
    using heap = DmaHeap.open('system');
    const controller = new AbortController();
    using buffer = await start(heap, controller.signal);
    controller.abort();
    assert.equal(buffer.read(new Uint8Array(1)), 1);
  });

  kernelTest(`${name} stops listening to the signal when it is done`, async () => {
    using heap = DmaHeap.open('system');
    const { signal } = new AbortController();
    (await start(heap, signal)).close();
    assert.deepEqual(getEventListeners(signal, 'abort'), []);
  });
}

kernelTest('one signal aborts many allocations', async () => {
  using heap = DmaHeap.open('system');
  const fds = openFds().size;
  const controller = new AbortController();
  const pending = Array.from({ length: 8 }, () => heap.allocate(4 << 20, { signal: controller.signal }));
  controller.abort('all');
  const outcomes = await Promise.allSettled(pending);
  assert.deepEqual(
    outcomes.map((outcome) => outcome.status === 'rejected' && outcome.reason),
    outcomes.map(() => 'all'),
  );
  await until(() => openFds().size === fds);
});

kernelTest('a refusal by the promise has the caller in its stack', async () => {
  using heap = DmaHeap.open('system');
  function callerOfHeapAllocate(): Promise<DmaBuf> {
    return heap.allocate(tebibyte);
  }
  const error = await rejectsCode(callerOfHeapAllocate, 'ERR_DMABUF_MEMORY_GUARD');
  assert.match(error.stack ?? '', /callerOfHeapAllocate/);
});
