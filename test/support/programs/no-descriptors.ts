// Runs with a low limit of file descriptors, and uses them up.

import { closeSync } from 'node:fs';
import { allocate, allocateSync, DmaBuf, DmaHeap } from 'dmabuf';
import { readFdInfo } from 'dmabuf/inspect';
import { takeDescriptors } from '../descriptors.js';
import { errorOf, type ReportedError } from '../expect.js';
import { report } from '../programs.js';

export interface NoDescriptorsReport {
  /** With no descriptor left. */
  withNone: Record<string, ReportedError>;
  /** With one left, where the call needs two. */
  withOne: Record<string, ReportedError>;
  /** How many were left after the calls that had one. */
  leftOfOne: number;
  /** What works without a new descriptor. */
  copied: number;
  /** Sizes of buffers allocated when there were descriptors again. */
  afterwards: number[];
}

using heap = DmaHeap.open('system');
using buffer = heap.allocateSync(4096);
using unshared = heap.allocateSync(4096); // its number is never asked for
// The thread pool starts, and whatever else opens a descriptor once.
(await heap.allocate(4096)).close();

const fillers: number[] = [];

/** Takes every descriptor that is left, and returns how many there were. */
function useUp(): number {
  const taken = takeDescriptors();
  fillers.push(...taken);
  return taken.length;
}

useUp();
const withNone = {
  'DmaHeap.open': await errorOf(() => DmaHeap.open('system')),
  'heap.allocateSync': await errorOf(() => heap.allocateSync(4096)),
  'heap.allocate': await errorOf(() => heap.allocate(4096)),
  allocateSync: await errorOf(() => allocateSync(4096, { from: ['system', heap] })),
  allocate: await errorOf(() => allocate(4096, { from: ['system', heap] })),
  'DmaBuf.import': await errorOf(() => DmaBuf.import(buffer.fd)),
  'buffer.dup': await errorOf(() => buffer.dup()),
  'buffer.info': await errorOf(() => buffer.info()),
  readFdInfo: await errorOf(() => readFdInfo('self', buffer.fd)),
  'buffer.read, of what others may hold': await errorOf(() => buffer.read(new Uint8Array(16))),
};
const copied = unshared.read(new Uint8Array(16));

/** Not async, and the promise goes elsewhere: V8's own async stack traces cannot show it. */
function callerOfHeapAllocate(): Promise<DmaBuf> {
  return heap.allocate(4096);
}

closeSync(fillers.pop() as number);
const withOne = {
  'heap.allocate': await errorOf(callerOfHeapAllocate),
  allocateSync: await errorOf(() => allocateSync(4096)),
  allocate: await errorOf(() => allocate(4096)),
};
const leftOfOne = useUp();

for (const fd of fillers) closeSync(fd);
using first = allocateSync(4096);
using second = await allocate(8192);
const observed: NoDescriptorsReport = {
  withNone,
  withOne,
  leftOfOne,
  copied,
  afterwards: [first.size, second.size],
};
report(observed);
