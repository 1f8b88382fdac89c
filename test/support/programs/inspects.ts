// Takes snapshots and reports them. DMABUF_TEST_HOLDS: it holds a buffer of that name itself.
// DMABUF_TEST_SOURCES: the sources, separated by commas; DMABUF_TEST_PINNED: the
// folder of pinned iterators.

import { allocateSync } from 'dmabuf';
import { type Snapshot, type SnapshotSource, snapshot } from 'dmabuf/inspect';
import { errorOf, type ReportedError } from '../expect.js';
import { report } from '../programs.js';

/** A snapshot as JSON has it. */
export interface ReportedSnapshot extends Omit<Snapshot, 'time' | 'attempts'> {
  attempts: { source: string; code: string; message: string }[];
}

export interface InspectReport {
  pid: number;
  /** By source; those that were refused are among the errors. */
  snapshots: Record<string, ReportedSnapshot>;
  errors: Record<string, ReportedError>;
}

const name = process.env.DMABUF_TEST_HOLDS;
// Whatever nobody refers to may be closed meanwhile.
const held = name === undefined ? undefined : allocateSync(4096, { name });
const observed: InspectReport = { pid: process.pid, snapshots: {}, errors: {} };
for (const source of (process.env.DMABUF_TEST_SOURCES ?? 'auto').split(',')) {
  const take = (): Promise<Snapshot> =>
    snapshot({ source: source as SnapshotSource, pinned: process.env.DMABUF_TEST_PINNED });
  const error = await errorOf(async () => {
    const taken = await take();
    const attempts = taken.attempts.map((attempt) => ({
      source: attempt.source,
      code: attempt.error.code,
      message: attempt.error.message,
    }));
    observed.snapshots[source] = { ...taken, attempts };
  }).catch(() => undefined);
  if (error !== undefined) observed.errors[source] = error;
}
report(observed);
held?.close();
