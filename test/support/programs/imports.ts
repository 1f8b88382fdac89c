// Imports descriptor DMABUF_TEST_FD of process DMABUF_TEST_PID, or of a child of its own that inherits it.

import { type ChildProcess, spawn } from 'node:child_process';
import { importFrom } from 'dmabuf';
import { openFds } from '../descriptors.js';
import { type ReportedError, reportError } from '../expect.js';
import { report } from '../programs.js';

export interface ImportReport {
  inode?: number;
  error?: ReportedError;
  /** How many descriptors were left. */
  left: number;
}

const fd = Number(process.env.DMABUF_TEST_FD);
let child: ChildProcess | undefined;
let pid = Number(process.env.DMABUF_TEST_PID);
if (Number.isNaN(pid)) {
  const stdio = Array.from({ length: fd + 1 }, (_, index) => (index === fd ? fd : ('ignore' as const)));
  child = spawn('sleep', ['1000'], { stdio });
  pid = child.pid as number;
}

const before = openFds().size;
const observed: ImportReport = { left: 0 };
try {
  using buffer = importFrom(pid, fd);
  observed.inode = buffer.inode;
} catch (error) {
  observed.error = reportError(error);
}
observed.left = openFds().size - before;
child?.kill();
report(observed);
