import { readFileSync } from 'node:fs';

/** Whether a process still runs; one that has ended and that nobody has asked about does not. */
export function isRunning(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}
