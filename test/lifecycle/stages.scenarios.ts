import assert from 'node:assert/strict';
import { Worker } from 'node:worker_threads';
import { openFds } from '../support/descriptors.js';
import { until } from '../support/event-loop.js';
import { Fence, fenceDevice, noFences } from '../support/fences.js';
import { kernelCount, noKernelList, untilGone } from '../support/observe.js';
import type { Scenario } from './scenario.js';
import { possibleStages, stages, together } from './stages.js';
import type { Reached, StageWorkerData } from './stages.worker.js';
import { endOf, messageOf } from './threads.js';

/** The process's descriptors that the package may have opened. */
function ours(): string[] {
  const kinds = /^\/dmabuf:|^\/dev\/dma_heap\/|^anon_inode:sync_file|^socket:|^\/dev\/udmabuf|^\/memfd:/;
  return [...openFds()].filter(([, target]) => kinds.test(target)).map(([fd, target]) => `${fd} ${target}`);
}

function signal(reached: readonly Reached[]): void {
  for (const { fences = [] } of reached) for (const fence of fences) new Fence(fence)[Symbol.dispose]();
}

/** A worker at these stages that ends in this way; nothing of it may be left. */
async function endWorker(
  names: string[],
  then: StageWorkerData['then'],
  code: number,
  onReached: (worker: Worker) => void = () => {},
): Promise<void> {
  const before = ours();
  const data: StageWorkerData = { names, then, fenceDevice: noFences === false ? fenceDevice() : undefined };
  const worker = new Worker(new URL('./stages.worker.js', import.meta.url), {
    workerData: data,
    trackUnmanagedFds: false, // Node itself would close the descriptors that the worker forgot
  });
  worker.on('error', (error) => assert.equal(error.message, 'as expected', error.stack));
  const ended = endOf(worker);
  const reached = (await messageOf(worker)) as Reached[];
  onReached(worker);
  assert.equal(await ended, code);
  assert.deepEqual(ours(), before);
  // The kernel keeps a buffer that was polled until its fences have signalled, though it is no longer polled.
  signal(reached);
  if (noKernelList !== false) return;
  for (const { inodes, size } of reached) {
    await untilGone(inodes);
    if (size !== undefined) await until(() => kernelCount(size) === 0, 'what was being allocated is freed');
  }
}

const terminated = new Map<string, Promise<void>>();

/** Ends a worker at this stage and at those that share one with it, unless that was done already. */
function terminateAt(names: string[]): Promise<void> {
  const key = names.join();
  const end = terminated.get(key) ?? endWorker(names, 'stay', 1, (worker) => void worker.terminate());
  terminated.set(key, end);
  return end;
}

const all = possibleStages();

export const scenarios: readonly Scenario[] = [
  ...stages.map((stage) => ({
    name: `while ${stage.name}`,
    skip: stage.skip ?? false,
    run: () => terminateAt(together(stage)),
  })),
  { name: 'it calls process.exit() during all that', run: () => endWorker(all, 'process.exit', 7) },
  { name: 'it throws during all that', run: () => endWorker(all, 'throw', 1) },
  { name: 'it ends by itself when all that is over', run: () => endWorker(all, 'finish', 0) },
];
