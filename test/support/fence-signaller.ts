// A worker that signals a fence while the main thread may be blocked. workerData: the device, and shared memory: [0] the
// number of the fence, once the main thread is about to block, [1] the fence is about to be signalled.

import { parentPort, workerData } from 'node:worker_threads';
import { Fence } from './fences.js';

export interface SignallerData {
  fenceDevice: number;
  shared: Int32Array;
}

const { shared } = workerData as SignallerData;
parentPort?.postMessage('ready');
Atomics.wait(shared, 0, 0);
Atomics.store(shared, 1, 1);
new Fence(Atomics.load(shared, 0)).signal();
