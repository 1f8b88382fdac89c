// Merges one file twenty times over with fewer and fewer descriptors free.

import { closeSync, openSync } from 'node:fs';
import { allocateSync, type DmaBufError, SyncFile } from 'dmabuf';
import { report } from '../programs.js';

export interface MergesReport {
  attempts: { free: number; outcome: string; left: number }[];
}

function fill(): number[] {
  const fds: number[] = [];
  for (;;) {
    try {
      fds.push(openSync('/dev/null', 'r'));
    } catch {
      return fds;
    }
  }
}

const observed: MergesReport = { attempts: [] };
const buffer = allocateSync(4096);
const file = buffer.exportSyncFile('read');
const files = Array<SyncFile>(20).fill(file);
(await SyncFile.mergeAsync('first', files)).close(); // what is opened once and kept
const taken = fill();
for (let free = 0; taken.length > 1; free++) {
  const outcome = await SyncFile.mergeAsync('few', files).then(
    (merged) => {
      merged.close();
      return 'merged';
    },
    (error: DmaBufError) => error.code,
  );
  // Whatever is left occupies what was free.
  const others = fill();
  observed.attempts.push({ free, outcome, left: free - others.length });
  for (const fd of others) closeSync(fd);
  closeSync(taken.pop() as number);
}
for (const fd of taken) closeSync(fd);
file.close();
buffer.close();
report(observed);
