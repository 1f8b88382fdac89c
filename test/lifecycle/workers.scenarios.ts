import assert from 'node:assert/strict';
import { closeSync, fstatSync } from 'node:fs';
import { allocateSync } from 'dmabuf';
import { moveThroughStream } from './escape.js';
import {
  assertFilled,
  assertReleased,
  bufferFds,
  collectGarbage,
  collectUntil,
  heapFds,
  mappedRanges,
  turns,
} from './observe.js';
import type { Scenario } from './scenario.js';
import { endOf, messageOf, start } from './threads.js';
import type { Role } from './workers.worker.js';

const size = 64 * 1024;

/** How many workers end at random moments: more, and it takes longer than a quick run of the tests should. */
const many = Number(process.env.DMABUF_TEST_WORKERS ?? 4);

/** Asserts that what ended workers held is gone: the process's descriptors and mappings are the kernel's count. */
async function assertNothingLeft(): Promise<void> {
  assert.deepEqual({ buffers: bufferFds(), heaps: heapFds() }, { buffers: 0, heaps: 0 });
  await collectUntil(() => mappedRanges() === 0, 'the ranges are unmapped');
}

async function terminated(role: Role): Promise<void> {
  const worker = start(role);
  assert.equal(await messageOf(worker), 'ready');
  assert.equal(await worker.terminate(), 1);
  await assertNothingLeft();
}

export const scenarios: readonly Scenario[] = [
  {
    name: 'a worker that ends with everything open leaves no descriptor and no mapping',
    async run() {
      assert.equal(await endOf(start('end normally')), 0);
      await assertNothingLeft();
    },
  },
  {
    name: 'a worker that calls process.exit() with everything open leaves nothing, and its exit code is its own',
    async run() {
      assert.equal(await endOf(start('call process.exit')), 7);
      await assertNothingLeft();
    },
  },
  {
    name: 'a worker that throws during a CPU access leaves nothing, and its error reaches the parent',
    async run() {
      const worker = start('throw');
      const errors: Error[] = [];
      worker.on('error', (error: Error) => errors.push(error));
      assert.equal(await endOf(worker), 1);
      assert.deepEqual(
        errors.map(({ message }) => message),
        ['as expected'],
      );
      await assertNothingLeft();
    },
  },
  {
    name: 'a worker that is terminated with everything open leaves nothing',
    run: () => terminated('wait'),
  },
  {
    name: 'a worker that is terminated with allocations in flight leaves nothing',
    run: () => terminated('leave allocations in flight'),
  },
  {
    name: 'a worker that is terminated while a thread compresses mapped memory leaves nothing',
    run: () => terminated('leave a compression in flight'),
  },
  {
    name: 'a worker that is terminated while a thread compresses released memory leaves nothing',
    run: () => terminated('release under a compression'),
  },
  {
    name: 'a descriptor number that a worker’s buffer lost to a stranger stays the stranger’s when the worker ends',
    async run() {
      const worker = start('lose a descriptor');
      const [fd] = (await Promise.all([messageOf(worker), endOf(worker)])) as [number, number];
      assert.ok(fstatSync(fd).isCharacterDevice());
      closeSync(fd);
      await assertNothingLeft();
    },
  },
  {
    name: 'several workers use the addon at once without noticing each other',
    async run() {
      const codes = Promise.all([1, 2, 3].map((number) => endOf(start('work independently', { number }))));
      assert.deepEqual(await codes, [0, 0, 0]);
      await assertNothingLeft();
    },
  },
  {
    name: 'memory that a worker gave away may be used after the worker has ended',
    async run() {
      const worker = start('give memory away');
      const bytes = (await messageOf(worker)) as Uint8Array;
      assertFilled(bytes, size, 7);
      await worker.terminate();
      await turns();
      bytes.fill(8);
      assertFilled(bytes, size, 8);
      assert.equal(bufferFds(), 0);
    },
  },
  {
    name: 'memory that a worker gave away and released may be used after the worker has ended',
    async run() {
      const worker = start('give memory away and release it');
      const bytes = (await messageOf(worker)) as Uint8Array;
      await worker.terminate();
      await turns();
      bytes.fill(8);
      assertFilled(bytes, size, 8);
      await assertNothingLeft();
    },
  },
  {
    name: 'memory that a worker gave away goes when its receiver has dropped it',
    async run() {
      const worker = start('give memory away and wait for its end');
      const end = endOf(worker);
      const received = [await messageOf(worker)];
      assertFilled(received[0] as Uint8Array, size, 7);
      received.length = 0;
      let code: number | undefined;
      end.then((value) => {
        code = value;
      });
      await collectUntil(() => mappedRanges() < 3, 'the memory is released');
      assert.equal(await end, 0);
      assert.equal(code, 0);
      await assertNothingLeft();
    },
  },
  {
    name: 'memory that was given to a worker is nobody’s after unmap(), and the worker may go on using it',
    async run() {
      const buffer = allocateSync(size);
      const mapping = buffer.map();
      const bytes = await moveThroughStream(mapping.buffer);
      const worker = start('write to what it was given', { bytes }, [bytes.buffer as ArrayBuffer]);
      await messageOf(worker);
      mapping.unmap();
      const content = new Uint8Array(size).fill(200);
      buffer.write(content);
      await turns(100);
      buffer.read(content);
      assertFilled(content, size, 200);
      await worker.terminate();
      collectGarbage();
      await turns();
      buffer.close();
      await assertNothingLeft();
    },
  },
  {
    name: `${many} workers that are terminated at random moments leave nothing`,
    async run() {
      const one = async (): Promise<void> => {
        const worker = start('do everything over and over');
        const end = endOf(worker);
        if (Math.random() < 0.8) await messageOf(worker);
        await turns(Math.floor(Math.random() * 400));
        await worker.terminate();
        await end;
      };
      for (let done = 0; done < many; done += 4) await Promise.all([one(), one(), one(), one()]);
      await assertNothingLeft();
    },
  },
  {
    name: 'released memory stays harmless when all workers have ended',
    async run() {
      const buffer = allocateSync(size);
      const { bytes } = buffer.map();
      buffer.close();
      await endOf(start('end normally'));
      assertReleased(bytes);
    },
  },
];
