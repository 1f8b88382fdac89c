// Reaches stages and stays there until the worker ends: by its parent, or as it was told.

import { parentPort, workerData } from 'node:worker_threads';
import type { Standing } from './stage.js';
import { stages } from './stages.js';

export interface StageWorkerData {
  names: string[];
  then: 'stay' | 'process.exit' | 'throw' | 'finish';
  /** The parent's device: it signals the fences. */
  fenceDevice: number | undefined;
}

/** What the parent learns. */
export type Reached = Pick<Standing, 'inodes' | 'size' | 'fences'>;

const { names, then } = workerData as StageWorkerData;

const reached: Standing[] = [];
for (const stage of stages) {
  if (names.includes(stage.name)) reached.push(await stage.enter());
}
parentPort?.postMessage(
  reached.map(({ inodes, size, fences = [] }) => {
    const report: Reached = { inodes, fences };
    if (size !== undefined) report.size = size;
    return report;
  }),
);
if (then === 'stay') parentPort?.ref();
if (then === 'process.exit') process.exit(7);
if (then === 'throw') throw new Error('as expected');
if (then === 'finish') {
  for (const { pending = [] } of reached) for (const promise of pending) promise.catch(() => {});
  for (const { finish } of reached) finish?.();
}
