// A worker that signals a fence while the main thread may be blocked. workerData: the device, the number of the
// fence, and shared memory: [0] the main thread is about to block, [1] the fence is about to be signalled.

import { parentPort, workerData } from 'node:worker_threads';
import { Fence } from './fences.js';

export interface SignallerData {
  fenceDevice: number;
  fence: number;
  shared: Int32Array;
}

const { fence, shared } = workerData as SignallerData;
parentPort?.postMessage('ready');
Atomics.wait(shared, 0, 0);
Atomics.store(shared, 1, 1);
new Fence(fence).signal();
