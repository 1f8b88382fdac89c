// A worker that looks at a file over and over, until it is told to stop. workerData.shared: [0] 1 to stop, [1] how often the
// file was there, [2] all permissions that it ever had.

import { lstatSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

const { path, shared } = workerData as { path: string; shared: Int32Array };

parentPort?.postMessage('ready');
while (Atomics.load(shared, 0) === 0) {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) continue;
  Atomics.add(shared, 1, 1);
  Atomics.or(shared, 2, stats.mode & 0o777);
}
