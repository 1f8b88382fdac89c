import { readFileSync, statSync } from 'node:fs';
import { type NativeHandle, native } from './native.js';

/** How often the lock is tried, a millisecond apart, while another thread or process of this user has it. */
const mostTries = 200;
/** How often while nobody is seen to have it: whoever had it may have let go just then. */
const mostUnseen = 5;

/** The inode number by which /proc/locks knows an open file: on an overlay it is another than stat(2) tells. */
function inodeOf(fd: number): string | undefined {
  // Since Linux 5.14.
  return /^ino:\t(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
}

/** The processes in sight that have an open file locked (flock(2)). */
function holdersOf(fd: number): number[] {
  const inode = inodeOf(fd);
  const holders: number[] = [];
  for (const line of readFileSync('/proc/locks', 'latin1').split('\n')) {
    const found = /^\d+: FLOCK +ADVISORY +\w+ +(\d+) [0-9a-f]+:[0-9a-f]+:(\d+) /.exec(line);
    if (found !== null && found[2] === inode) holders.push(Number(found[1]));
  }
  return holders;
}

function isOwn(pid: number): boolean {
  return statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid === process.geteuid?.();
}

/** Who has it: processes of this user, only others, or nobody in sight. */
function whoHas(fd: number): 'own' | 'other' | 'nobody' {
  try {
    const holders = holdersOf(fd);
    if (holders.length === 0) return 'nobody';
    return holders.some(isOwn) ? 'own' : 'other';
  } catch {
    return 'nobody';
  }
}

/**
 * Locks a folder, so that of this user's processes and threads one at a time replaces what a dead server left in it.
 *
 * Whoever may list the folder may lock it: another user's lock is passed over, or he could keep servers from starting. He
 * can take away the order among simultaneous starts, and no more.
 *
 * @param path The folder's, through its descriptor `fd`.
 * @returns undefined where it cannot be locked; 'busy' when others of this user keep it.
 */
export function lockFolder(fd: number, path: string): NativeHandle | 'busy' | undefined {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let tries = 0, unseen = 0; tries < mostTries; tries++) {
    try {
      const lock = native.lockFolder(path);
      if (lock >= 0) {
        native.unclaimed[0] = 0;
        return lock;
      }
    } catch (error) {
      if ((error as { code?: string }).code === 'EACCES') return undefined; // It may not be listed.
      throw error;
    }
    const who = whoHas(fd);
    if (who === 'other') return undefined;
    if (who === 'nobody' && ++unseen === mostUnseen) return undefined;
    Atomics.wait(pause, 0, 0, 1);
  }
  return 'busy';
}
