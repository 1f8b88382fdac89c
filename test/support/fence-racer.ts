// A worker that makes a buffer busy at any moment, over and over, and idle again only when the main thread's event loop has
// turned. workerData: the device, a descriptor of the buffer, and shared memory: [0] the turns of the main thread, [1] whether
// this is over.

import { workerData } from 'node:worker_threads';
import { DmaBuf } from 'dmabuf';
import { addFence } from './fences.js';

export interface RacerData {
  fenceDevice: number;
  fd: number;
  rounds: number;
  shared: Int32Array;
}

const { fd, rounds, shared } = workerData as RacerData;

function awaitTurns(count: number): void {
  for (let turn = 0; turn < count; turn++) Atomics.wait(shared, 0, Atomics.load(shared, 0));
}

/** Takes longer or shorter, so that the fence comes at any moment of what the main thread does. */
function dawdle(round: number): void {
  for (let step = (round * 7919) % 10_007; step > 0; step--) Atomics.load(shared, 1);
}

using buffer = DmaBuf.import(fd);
try {
  for (let round = 0; round < rounds; round++) {
    const fence = addFence(buffer, 'write');
    awaitTurns(2);
    fence.signal(); // which fails if the main thread slept until the kernel gave the fence up
    dawdle(round);
  }
} finally {
  Atomics.store(shared, 1, 1);
}
