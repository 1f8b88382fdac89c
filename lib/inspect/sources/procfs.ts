import { createError, DmaBufError } from '../../errors.js';
import { native } from '../../native.js';
import { whyRootMayNot } from '../../rights.js';
import { nodesThread, onThreadPool, type Survey, toSurvey } from './survey.js';

/** Reads the descriptors and mappings of all processes. */
export async function surveyProcfs(): Promise<Survey> {
  return toSurvey('procfs', await onThreadPool((done) => native.scanProcesses(nodesThread, done), explain));
}

function explain(errno: number, syscall: string): DmaBufError {
  if (syscall !== '/proc') return createError(errno, syscall);
  return new DmaBufError('ENODEV: there is no procfs at /proc', {
    code: 'ENODEV',
    errno,
    path: syscall,
    hint: 'Mount it, as root: mount -t proc proc /proc',
  });
}

/** A file's bytes; none when it cannot be read. */
async function read(path: string): Promise<string> {
  try {
    const bytes = await onThreadPool<Buffer>((done) => native.readWhole(path, done));
    return bytes.toString('latin1');
  } catch {
    return '';
  }
}

/**
 * Why /proc may not show every process, if so: with hidepid it omits those of other users, which cannot be counted
 * (proc(5), "Mount options").
 */
export async function whatProcHides(): Promise<DmaBufError | undefined> {
  const mounts = await read('/proc/self/mounts');
  // The last one is on top.
  const proc = mounts
    .split('\n')
    .filter((line) => line.split(' ', 2)[1] === '/proc')
    .at(-1);
  const hidepid = /[ ,]hidepid=(\w+)/.exec(proc ?? '')?.[1];
  if (hidepid === undefined || hidepid === '0' || hidepid === 'off') return undefined;
  // Process 1 exists on every Linux, and belongs to root or another user.
  if ((await read('/proc/1/stat')) !== '') return undefined;
  const cause = createError(-2, 'open', '/proc/1');
  return new DmaBufError(
    `ENOENT: /proc shows no processes of other users, since it is mounted with hidepid=${hidepid}`,
    {
      code: 'ENOENT',
      errno: -2,
      syscall: 'open',
      path: '/proc/1',
      hint:
        whyRootMayNot('SYS_PTRACE') ??
        'Run as root, or as a user of the group that its mount option gid names',
      cause,
    },
  );
}
