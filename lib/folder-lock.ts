import { type NativeHandle, native } from './native.js';

/** How often the lock is tried, a millisecond apart: for much longer than a file takes to be replaced. */
const mostTries = 200;

/**
 * Locks a folder, so that of this user's processes and threads one at a time replaces what a dead server left in it.
 *
 * Whoever may list the folder may lock it, and keep it locked; the kernel says who only in a list of all locks of the machine,
 * which others can make as long as they like. So a lock that is kept is passed over, whoever keeps it: he can take away the
 * order among simultaneous starts, and no more.
 *
 * @returns undefined where it cannot be locked.
 */
export function lockFolder(path: string): NativeHandle | undefined {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let tries = 1; ; tries++) {
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
    if (tries === mostTries) return undefined;
    Atomics.wait(pause, 0, 0, 1);
  }
}
