import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Role } from './workers.worker.js';

/** Starts a worker in a role of workers.worker.ts. */
export function start(role: Role, data: object = {}, transferList: ArrayBuffer[] = []): Worker {
  return new Worker(new URL('./workers.worker.js', import.meta.url), {
    workerData: { role, ...data },
    transferList,
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
