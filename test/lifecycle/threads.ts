import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ResourceLimits, Worker } from 'node:worker_threads';
import { turns } from '../support/event-loop.js';
import type { Role } from './workers.worker.js';

/** Starts a worker in a role of workers.worker.ts. */
export function start(
  role: Role,
  data: object = {},
  transferList: ArrayBuffer[] = [],
  resourceLimits: ResourceLimits = {},
): Worker {
  return new Worker(new URL('./workers.worker.js', import.meta.url), {
    workerData: { role, ...data },
    transferList,
    resourceLimits,
    trackUnmanagedFds: false, // Node itself would close the descriptors that the worker forgot
  });
}

/** The next message of a worker. */
export async function messageOf(worker: Worker): Promise<unknown> {
  const [message] = await once(worker, 'message');
  return message;
}

/** Waits for a worker's end; returns its exit code. */
export function endOf(worker: Worker): Promise<number> {
  return new Promise((resolve) => worker.once('exit', resolve));
}

/** How many workers end at random moments: more, and it takes longer than a quick run of the tests should. */
export const manyWorkers = Number(process.env.DMABUF_TEST_WORKERS ?? 4);

/** Starts that many workers, four at a time, and terminates each at a random moment of its first rounds. */
export async function terminateAtRandom(role: Role, data: object = {}): Promise<void> {
  let left = manyWorkers;
  const oneAfterTheOther = async (): Promise<void> => {
    while (left-- > 0) {
      const worker = start(role, data);
      const errors: Error[] = [];
      worker.on('error', (error) => errors.push(error));
      const end = endOf(worker);
      const rounds = Math.floor(Math.random() * 6);
      for (let round = 0; round < rounds; round++) await Promise.race([messageOf(worker), end]);
      await turns(Math.floor(Math.random() * 400));
      await worker.terminate();
      assert.deepEqual(errors, []);
      const code = await end;
      if (rounds > 0) assert.equal(code, 1); // else 0 when it was before the first line
    }
  };
  await Promise.all([1, 2, 3, 4].map(oneAfterTheOther));
}
