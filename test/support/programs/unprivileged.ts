// Runs as a user who may not open the heaps. argv: nothing; DMABUF_TEST_FD: a dma-buf of the parent's.

import { allocate, allocateSync, DmaHeap, type HeapInfo } from 'dmabuf';
import { readFdInfo } from 'dmabuf/inspect';
import { errorOf, type ReportedError } from '../expect.js';
import { report } from '../programs.js';

export interface UnprivilegedReport {
  heaps: HeapInfo[];
  open: ReportedError;
  allocate: ReportedError;
  allocateSync: ReportedError;
  readFdInfo: ReportedError;
}

const foreignFd = Number(process.env.DMABUF_TEST_FD);

const observed: UnprivilegedReport = {
  heaps: DmaHeap.list(),
  open: await errorOf(() => DmaHeap.open('system')),
  allocate: await errorOf(() => allocate(4096)),
  allocateSync: await errorOf(() => allocateSync(4096, { from: ['system', 'no-such-heap'] })),
  readFdInfo: await errorOf(() => readFdInfo(process.ppid, foreignFd)),
};
report(observed);
