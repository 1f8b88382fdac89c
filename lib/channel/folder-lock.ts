import { type NativeHandle, native } from '../native.js';

/**
 * Locks a folder, so that of this user's processes and threads one at a time replaces what a dead server left in it.
 *
 * Whoever may list the folder may lock it, and keep it locked; the kernel says who only in a list of all locks of the machine,
 * which others can make as long as they like. So a lock that is kept is passed over, whoever keeps it: he can take away the
 * order among simultaneous starts, and no more.
 *
 * @returns undefined where it cannot be locked.
 */
export function lockFolder(folder: NativeHandle, patience: () => number): NativeHandle | undefined {
  try {
    const lock = native.lockPlace(folder, patience());
    native.unclaimed[0] = 0;
    return lock < 0 ? undefined : lock;
  } catch (error) {
    if ((error as { code?: string }).code === 'EACCES') return undefined; // It may not be listed.
    throw error;
  }
}
