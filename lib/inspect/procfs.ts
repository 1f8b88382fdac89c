import { readFile } from 'node:fs/promises';
import { createError, DmaBufError } from '../errors.js';
import { native } from '../native.js';
import { onThreadPool, type Survey, toSurvey } from './survey.js';

/** Looks through the descriptors and mappings of all processes, or of these. */
export async function surveyProcfs(pids?: readonly number[]): Promise<Survey> {
  if (pids?.length === 0) return { source: 'procfs', buffers: new Map(), commands: new Map(), unreadable: [] };
  const wanted = Float64Array.from(pids ?? []);
  return toSurvey('procfs', await onThreadPool((done) => native.scanProcesses(wanted, done)));
}

/**
 * Why /proc may not show every process, if so: with hidepid it leaves out those of other users, and nobody can count what
 * is left out (proc(5), "Mount options").
 */
export async function whatProcHides(): Promise<DmaBufError | undefined> {
  const mounts = await readFile('/proc/self/mounts', 'latin1').catch(() => '');
  // The last one is on top.
  const proc = mounts.split('\n').filter((line) => line.split(' ', 2)[1] === '/proc').at(-1);
  const hidepid = /[ ,]hidepid=(\w+)/.exec(proc ?? '')?.[1];
  if (hidepid === undefined || hidepid === '0' || hidepid === 'off') return undefined;
  // Process 1 is there on every Linux, and always root's or another user's own.
  if (await readFile('/proc/1/stat').then(Boolean, () => false)) return undefined;
  const cause = createError(-2, 'open', '/proc/1');
  return new DmaBufError(
    `ENOENT: /proc shows no processes of other users, since it is mounted with hidepid=${hidepid}. Run as root, or as a ` +
      'user of the group that its mount option gid names.',
    { code: 'ENOENT', errno: -2, syscall: 'open', path: '/proc/1', cause },
  );
}
