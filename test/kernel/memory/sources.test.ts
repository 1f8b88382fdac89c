import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { type AllocateOptions, allocate, allocateSync, DmaBuf, DmaHeap } from 'dmabuf';
import { leavesNothing } from '../../support/descriptors.js';
import { turns } from '../../support/event-loop.js';
import { assertCode, rejectsCode, rejectsWith, throwsCode } from '../../support/expect.js';
import { kernelTest, type TestBody } from '../../support/kernel-test.js';
import { limitUdmabuf } from '../../support/memfds.js';

// allocate() tries one source after the other; both variants the same.

const variants: Record<string, (size: number, options?: AllocateOptions) => Promise<DmaBuf>> = {
  allocate,
  allocateSync: async (size, options) => allocateSync(size, options),
};

const rootTest = (name: string, body: TestBody): void =>
  kernelTest(name, body, process.getuid?.() === 0 ? false : 'only root can set the limit of udmabuf');

/** Whether this machine has contiguous memory decides which facts can be seen. */
const contiguous = DmaHeap.list().some(({ kind }) => kind === 'cma');

for (const [name, run] of Object.entries(variants)) {
  kernelTest(`${name} takes from the system heap by default`, async () => {
    using buffer = await run(4096);
    assert.deepEqual([buffer.source, buffer.info().exporter], ['system', 'system']);
  });

  kernelTest(`${name} makes a buffer from udmabuf: whole pages, zeroed and named`, async () => {
    using buffer = await run(5000, { from: 'udmabuf', name: 'mine' });
    const { exporter, size, name: label } = buffer.info();
    assert.deepEqual([buffer.source, exporter, size, label], ['udmabuf', 'udmabuf', 8192, 'mine']);
    assert.ok(buffer.withCpuAccessSync('read', (bytes) => bytes.every((byte) => byte === 0)));
  });

  for (const access of ['read', 'write'] as const) {
    kernelTest(`${name} cannot take access '${access}' from udmabuf, and says so`, async () => {
      const { attempts = [] } = await leavesNothing(() =>
        rejectsCode(() => run(4096, { from: 'udmabuf', access }), 'ERR_DMABUF_NO_SOURCE'),
      );
      assert.equal(attempts[0]?.error.code, 'ENOTSUP');
      assert.match(attempts[0]?.error.message ?? '', /read-write/);
    });

    kernelTest(`${name} goes on from udmabuf to a heap for access '${access}'`, async () => {
      using buffer = await run(4096, { from: ['udmabuf', 'system'], access });
      assert.equal(buffer.source, 'system');
    });
  }

  kernelTest(`${name} takes the first source that can serve`, async () => {
    using buffer = await run(4096, { from: ['no-such-heap', 'udmabuf', 'system'] });
    assert.equal(buffer.source, 'udmabuf');
    using other = await run(4096, { from: ['system', 'udmabuf'] });
    assert.equal(other.source, 'system');
  });

  kernelTest(`${name} goes on after a file that is no heap`, async () => {
    using buffer = await run(4096, { from: ['/dev/null', 'system'] });
    assert.equal(buffer.source, 'system');
  });

  kernelTest(`${name} takes a heap by its path, and a DmaHeap that stays open`, async () => {
    using byPath = await run(4096, { from: '/dev/dma_heap/system' });
    assert.equal(byPath.info().exporter, 'system');
    using heap = DmaHeap.open('system');
    using buffer = await run(4096, { from: [heap, 'udmabuf'] });
    assert.deepEqual([buffer.source, heap.closed], ['system', false]);
  });

  kernelTest(
    `${name} goes on where there is no contiguous heap`,
    async () => {
      using buffer = await run(4096, { from: ['cma', 'system', 'udmabuf'] });
      assert.equal(buffer.source, 'system');
    },
    contiguous ? 'this kernel has a contiguous heap' : false,
  );

  kernelTest(`${name} lists every attempt with its cure when nothing can serve`, async () => {
    const error = await leavesNothing(() =>
      rejectsCode(
        () => run(4096, { from: ['no-such-heap', '/dev/dma_heap/nor-this', 'udmabuf'], access: 'read' }),
        'ERR_DMABUF_NO_SOURCE',
      ),
    );
    assert.deepEqual(
      error.attempts?.map((attempt) => `${attempt.source} ${attempt.error.code}`),
      ['no-such-heap ENOENT', '/dev/dma_heap/nor-this ENOENT', 'udmabuf ENOTSUP'],
    );
    for (const { source, error: refusal } of error.attempts ?? []) {
      assertCode(refusal, refusal.code);
      const { hint = '' } = refusal;
      const what = refusal.message.slice(0, refusal.message.length - hint.length).replace(/\. $/, '');
      assert.ok(error.message.includes(`${source}: ${what}`), error.message);
      // What holds for several sources is said once.
      const sentences = hint === '' ? [] : hint.split(/(?<=\.) (?=[A-Z])/);
      for (const sentence of sentences) assert.equal(error.message.split(sentence).length, 2);
    }
    assert.match(error.message, /CONFIG_DMABUF_HEAPS/);
  });

  kernelTest(`${name} of a closed heap does not go on: that is a mistake, not a refusal`, async () => {
    const heap = DmaHeap.open('system');
    heap.close();
    await rejectsCode(() => run(4096, { from: [heap, 'system'] }), 'ERR_DMABUF_CLOSED');
  });

  rootTest(`${name} goes on after a limit of udmabuf, and keeps its refusal`, async () => {
    using _limit = limitUdmabuf(64);
    using buffer = await run((64 << 20) + 1, { from: ['udmabuf', 'system'] });
    assert.equal(buffer.source, 'system');
    const [attempt, ...more] = buffer.attempts;
    assert.deepEqual([attempt?.source, attempt?.error.code, more.length], ['udmabuf', 'EINVAL', 0]);
    assert.match(attempt?.error.message ?? '', /exceed the module's limit of 64 MiB/);
    assert.match(attempt?.error.hint ?? '', /echo 65 > .*size_limit_mb/);
  });

  rootTest(`${name} says of each source why it failed when a limit of udmabuf is the last`, async () => {
    using _limit = limitUdmabuf(64);
    const { attempts } = await rejectsCode(
      () => run(65 << 20, { from: ['no-such-heap', 'udmabuf'] }),
      'ERR_DMABUF_NO_SOURCE',
    );
    assert.deepEqual(
      attempts?.map(({ source, error }) => [source, error.code]),
      [
        ['no-such-heap', 'ENOENT'],
        ['udmabuf', 'EINVAL'],
      ],
    );
  });

  rootTest(`${name} takes the limit that there is since Linux 7.3 for none`, async () => {
    using _limit = limitUdmabuf(2 ** 31 - 1);
    using buffer = await run(65 << 20, { from: 'udmabuf' });
    assert.equal(buffer.source, 'udmabuf');
  });

  kernelTest(`${name} keeps every refusal of the sources that were passed over`, async () => {
    using buffer = await run(4096, { from: ['no-such-heap', '/dev/null', 'system', 'udmabuf'] });
    assert.deepEqual(
      buffer.attempts.map(({ source, error }) => [source, error.code]),
      [
        ['no-such-heap', 'ENOENT'],
        ['/dev/null', 'ENOTTY'],
      ],
    );
    for (const { error } of buffer.attempts) assertCode(error, error.code);
  });

  kernelTest(`${name} has passed over nothing when the first source serves`, async () => {
    using buffer = await run(4096, { from: ['system', 'no-such-heap'] });
    assert.deepEqual(buffer.attempts, []);
  });

  kernelTest(`${name} does not go on when no descriptor is open behind a heap`, async () => {
    using heap = DmaHeap.open('system');
    closeSync(heap.fd);
    await rejectsCode(() => run(4096, { from: [heap, 'system'] }), 'EBADF');
  });

  kernelTest(`${name} of more than the machine has is refused before any source is asked`, async () => {
    await leavesNothing(() =>
      rejectsCode(() => run(2 ** 45, { from: ['udmabuf', 'system'] }), 'ERR_DMABUF_MEMORY_GUARD'),
    );
  });
}

kernelTest('allocate from udmabuf with a signal that had aborted makes nothing', async () => {
  await rejectsWith(allocate(4096, { from: 'udmabuf', signal: AbortSignal.abort('before') }), 'before');
});

kernelTest('allocate from udmabuf that is aborted rejects with the reason, and leaves nothing', async () => {
  const controller = new AbortController();
  const waiting = allocate(1 << 20, { from: ['no-such-heap', 'udmabuf'], signal: controller.signal });
  await Promise.resolve();
  controller.abort('meanwhile');
  await rejectsWith(waiting, 'meanwhile');
  // A later job of the same kind, and some turns: the buffer that nobody wants has come and gone.
  (await allocate(1 << 20, { from: 'udmabuf' })).close();
  await turns(50);
});

kernelTest('allocate shows in its error where it was called', async () => {
  async function namedCaller(): Promise<void> {
    (await allocate(4096, { from: 'no-such-heap' })).close();
  }
  const { stack = '' } = await rejectsCode(namedCaller, 'ERR_DMABUF_NO_SOURCE');
  assert.match(stack, /at (async )?namedCaller .*sources\.test/);
});

kernelTest('a duplicate knows its source', () => {
  using buffer = allocateSync(4096, { from: 'udmabuf' });
  using copy = buffer.dup();
  assert.equal(copy.source, 'udmabuf');
});

kernelTest('the list of what was passed over cannot be changed', () => {
  using buffer = allocateSync(4096, { from: ['no-such-heap', 'system'] });
  using other = allocateSync(4096);
  assert.ok(Object.isFrozen(buffer.attempts) && Object.isFrozen(other.attempts));
});

kernelTest('a buffer that came in another way has passed over nothing', () => {
  using buffer = allocateSync(4096, { from: ['no-such-heap', 'system'] });
  using imported = DmaBuf.import(buffer.fd);
  assert.deepEqual(imported.attempts, []);
});

kernelTest('one source that refuses is reported like many', () => {
  const { attempts } = throwsCode(() => allocateSync(4096, { from: 'no-such-heap' }), 'ERR_DMABUF_NO_SOURCE');
  assert.equal(attempts?.length, 1);
});
