import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { describe, test } from 'node:test';
import { allocate, allocateSync, DmaHeap } from 'dmabuf';
import { leavesNothing } from '../support/descriptors.js';
import { rejectsCode, throwsCode } from '../support/expect.js';

const hasHeaps = existsSync('/dev/dma_heap') && 'this machine has heaps';

describe('a machine without heaps', () => {
  test('has an empty list', { skip: hasHeaps }, () => {
    assert.deepEqual(DmaHeap.list(), []);
  });

  test('says so when one is opened', { skip: hasHeaps }, () => {
    const error = throwsCode(() => DmaHeap.open('system'), 'ENOENT');
    assert.match(error.message, /There is no heap here/);
  });

  test('says so for the alias cma', { skip: hasHeaps }, () => {
    assert.equal(throwsCode(() => DmaHeap.open('cma'), 'ENOENT').path, '/dev/dma_heap/cma');
  });
});

describe('DmaHeap.open refuses what is no heap', () => {
  for (const [what, path, code] of [
    ['a name that does not exist', 'no-such-heap', 'ENOENT'],
    ['a path that does not exist', '/dev/no/such/heap', 'ENOENT'],
    ['a relative path that does not exist', './no-such-heap', 'ENOENT'],
    ['a path through a file', '/dev/null/system', 'ENOTDIR'],
    ['a path that is too long', `/dev/${'x/'.repeat(5000)}`, 'ENAMETOOLONG'],
    ['a name that is too long', `/dev/${'x'.repeat(300)}`, 'ENAMETOOLONG'],
    ['a regular file', '/proc/self/status', 'ENOTTY'],
    ['a directory', '/dev/', 'ENOTTY'],
    ['another character device', '/dev/null', 'ENOTTY'],
  ] as const) {
    test(what, () => {
      const error = leavesNothing(() => throwsCode(() => DmaHeap.open(path), code));
      assert.equal(error.syscall, 'open');
    });
  }
});

describe('a chain of sources', () => {
  const from = ['no-such-heap', '/dev/null', '/no/such/path'];

  test('that all refuse is reported one by one, in order', () => {
    const error = leavesNothing(() => throwsCode(() => allocateSync(4096, { from }), 'ERR_DMABUF_NO_SOURCE'));
    assert.deepEqual(
      error.attempts?.map((attempt) => [attempt.source, attempt.error.code]),
      [
        ['no-such-heap', 'ENOENT'],
        ['/dev/null', 'ENOTTY'],
        ['/no/such/path', 'ENOENT'],
      ],
    );
  });

  test('that all refuse is reported the same by the promise', async () => {
    const error = await leavesNothing(() =>
      rejectsCode(() => allocate(4096, { from }), 'ERR_DMABUF_NO_SOURCE'),
    );
    assert.deepEqual(
      error.attempts?.map((attempt) => attempt.error.code),
      ['ENOENT', 'ENOTTY', 'ENOENT'],
    );
  });

  test('has each refusal in the message, with what to do', () => {
    const error = throwsCode(() => allocateSync(4096, { from }), 'ERR_DMABUF_NO_SOURCE');
    const lines = error.message.split('\n');
    assert.match(lines[0] ?? '', /^ERR_DMABUF_NO_SOURCE: .*4096/);
    assert.match(lines[1] ?? '', /no-such-heap: ENOENT: .*CONFIG_DMABUF_HEAPS/);
    assert.match(lines[2] ?? '', /\/dev\/null: ENOTTY: .*heaps are the devices under \/dev\/dma_heap/);
  });

  test('says what is to be done about several of them once', () => {
    const names = ['no-such-heap', 'no-other-heap', 'no-third-heap'];
    const { message, attempts } = throwsCode(
      () => allocateSync(4096, { from: names }),
      'ERR_DMABUF_NO_SOURCE',
    );
    const sentences = attempts?.map(({ error }) => error.hint?.split('. ').at(-1)) ?? [];
    assert.equal(new Set(sentences).size, 1);
    assert.equal(message.split(sentences[0] as string).length, 2, message);
  });

  test('of one source is reported like any chain', () => {
    const error = throwsCode(() => allocateSync(4096, { from: '/no/such/path' }), 'ERR_DMABUF_NO_SOURCE');
    assert.equal(error.attempts?.length, 1);
  });

  test('ends at an error that another source would not cure', () => {
    const chain = ['/dev/null/system', 'no-such-heap'];
    throwsCode(() => allocateSync(4096, { from: chain }), 'ENOTDIR');
  });

  test('ends the same for the promise', async () => {
    const chain = ['/dev/null/system', 'no-such-heap'];
    await rejectsCode(() => allocate(4096, { from: chain }), 'ENOTDIR');
  });

  test('has the caller in the stack of its error', () => {
    function callerOfAllocateSync(): Error {
      return throwsCode(() => allocateSync(4096, { from }), 'ERR_DMABUF_NO_SOURCE');
    }
    assert.match(callerOfAllocateSync().stack ?? '', /callerOfAllocateSync/);
  });

  test("has the caller in the stack of the promise's error", async () => {
    // Not async and not awaited here: V8's own async stack traces cannot help.
    function callerOfAllocate(): Promise<unknown> {
      return allocate(4096, { from });
    }
    const error = await rejectsCode(callerOfAllocate, 'ERR_DMABUF_NO_SOURCE');
    assert.match(error.stack ?? '', /callerOfAllocate/);
  });
});

describe('an aborted allocation', () => {
  test('rejects with the reason and touches no source', async () => {
    const reason = { why: 'no longer needed' };
    const signal = AbortSignal.abort(reason);
    await assert.rejects(
      () => allocate(4096, { signal, from: '/no/such/path' }),
      (error) => error === reason,
    );
  });

  test('rejects with an AbortError when no reason was given', async () => {
    await assert.rejects(() => allocate(4096, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  });

  test('refuses a bad argument before it looks at the signal', async () => {
    await rejectsCode(() => allocate(-1, { signal: AbortSignal.abort() }), 'ERR_OUT_OF_RANGE');
  });

  test('rejects with the reason even when that is an error of this package', async () => {
    const reason = throwsCode(() => DmaHeap.open('/no/such/path'), 'ENOENT');
    const controller = new AbortController();
    const from = ['/no/such/path', '/no/such/path/either'];
    const promise = allocate(4096, { from, signal: controller.signal });
    controller.abort(reason);
    await assert.rejects(promise, (error) => error === reason);
  });
});

describe('the memory guard', () => {
  const size = 2 ** 50;
  const figures = /^ERR_DMABUF_MEMORY_GUARD: 1125899906842624 bytes were requested and (\d+) are available/;

  test('refuses more than the machine has, with both figures', () => {
    const error = leavesNothing(() => throwsCode(() => allocateSync(size), 'ERR_DMABUF_MEMORY_GUARD'));
    const [, available] = figures.exec(error.message) ?? [];
    assert.ok(Number(available) > 0 && Number(available) < size, error.message);
  });

  test('refuses the same by the promise', async () => {
    const error = await rejectsCode(() => allocate(size), 'ERR_DMABUF_MEMORY_GUARD');
    assert.match(error.message, figures);
  });

  test('says how to turn it off', () => {
    const error = throwsCode(() => allocateSync(size), 'ERR_DMABUF_MEMORY_GUARD');
    assert.match(error.message, /unchecked: true/);
  });

  test('lets a request through when it is turned off', () => {
    throwsCode(() => allocateSync(size, { unchecked: true, from: '/no/such/path' }), 'ERR_DMABUF_NO_SOURCE');
  });
});
