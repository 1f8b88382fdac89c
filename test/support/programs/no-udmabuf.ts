// Runs as a user who may not open /dev/udmabuf, nor the heaps.

import { closeSync } from 'node:fs';
import { allocate, allocateSync, createMemfd, DmaBuf } from 'dmabuf';
import { errorOf, type ReportedError } from '../expect.js';
import { report } from '../programs.js';

export interface UdmabufReport {
  fromMemfd: ReportedError;
  allocate: ReportedError;
  allocateSync: ReportedError;
}

const memfd = createMemfd(4096);
const observed: UdmabufReport = {
  fromMemfd: await errorOf(() => DmaBuf.fromMemfd(memfd)),
  allocate: await errorOf(() => allocate(4096)),
  allocateSync: await errorOf(() => allocateSync(4096)),
};
closeSync(memfd);
report(observed);
