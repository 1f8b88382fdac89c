import { native, type Slot, Yielded } from '../native.js';

/** Milliseconds that a lock is waited for, much longer than a file takes to be replaced, and those between two tries. */
const lockPatience = 1000;
const pause = 5;

/**
 * Locks a folder, so that of this user's processes and threads one at a time replaces what a dead server left in it.
 *
 * Every user who may list the folder may lock it, and keep it locked; the kernel only says who in a list of all locks of
 * the machine, which any user can make very long. So a lock that is kept is ignored: its owner can disturb the order of
 * simultaneous starts, and nothing else.
 *
 * @returns undefined where it cannot be locked.
 */
export function lockFolder(folder: Slot, patience: () => number): Slot | undefined {
  const never = new Int32Array(new SharedArrayBuffer(4));
  const end = performance.now() + lockPatience;
  // No thread waits: there are two for one path, and who has the lock needs one.
  for (;;) {
    try {
      const lock = native.lockPlace(folder, patience());
      native.unclaimed[Yielded.only] = 0;
      if (lock >= 0) return lock;
    } catch (error) {
      if ((error as { code?: string }).code === 'EACCES') return undefined; // It may not be listed.
      throw error;
    }
    if (performance.now() >= end) return undefined;
    Atomics.wait(never, 0, 0, pause);
  }
}
