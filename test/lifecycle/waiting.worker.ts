// What the scenarios of waiting.scenarios.ts have their workers do: wait for buffers that the parent keeps busy.

import { parentPort, workerData } from 'node:worker_threads';
import { DmaBuf } from 'dmabuf';

export interface WaitingData {
  /** Descriptors of the parent's buffers. */
  fds: number[];
  /** What to do once all waits are pending. */
  then: 'stay' | 'process.exit' | 'throw' | 'end when they are over';
}

const { fds, then } = workerData as WaitingData;
const waits = fds.flatMap((fd, index) => {
  const buffer = DmaBuf.import(fd);
  if (index % 3 === 0) return [buffer.ready('read')];
  if (index % 3 === 1) return [buffer.cpuAccess('write').then((access) => access.end())];
  return [buffer.exportSyncFile('write').wait()];
});
parentPort?.postMessage('waiting');
if (then === 'stay') setInterval(() => {}, 1 << 30);
if (then === 'process.exit') process.exit(7);
if (then === 'throw') throw new Error('as expected');
await Promise.all(waits);
if (then === 'end when they are over') parentPort?.postMessage('over');
