// Merges one file twenty times over with fewer and fewer descriptors free.

import { closeSync, readlinkSync } from 'node:fs';
import { allocateSync, type DmaBufError, SyncFile } from 'dmabuf';
import { takeDescriptors } from '../descriptors.js';
import { report } from '../programs.js';

export interface MergesReport {
  /** With so many free: what came of it, and what was left at their numbers. */
  attempts: { free: number; outcome: string; left: string[] }[];
}

/** What stands at a number; nothing where it is free, or where malloc looks. To ask takes no descriptor. */
function standingAt(fd: number): string[] {
  try {
    const target = readlinkSync(`/proc/self/fd/${fd}`);
    return /^\/(proc|sys)\//.test(target) ? [] : [target];
  } catch {
    return [];
  }
}

const observed: MergesReport = { attempts: [] };
const buffer = allocateSync(4096);
const file = buffer.exportSyncFile('read');
const files = Array<SyncFile>(20).fill(file);
(await SyncFile.mergeAsync('first', files)).close(); // what is opened once and kept
const taken = takeDescriptors();
const free: number[] = [];
while (taken.length > 1) {
  const outcome = await SyncFile.mergeAsync('few', files).then(
    (merged) => {
      merged.close();
      return 'merged';
    },
    (error: DmaBufError) => error.code,
  );
  // Another thread may have had one of them for a moment: what cannot be taken is looked at.
  const others = takeDescriptors();
  const left = free.filter((fd) => !others.includes(fd)).flatMap(standingAt);
  observed.attempts.push({ free: free.length, outcome, left });
  for (const fd of others) closeSync(fd);
  const next = taken.pop() as number;
  closeSync(next);
  free.push(next);
}
for (const fd of taken) closeSync(fd);
file.close();
buffer.close();
report(observed);
