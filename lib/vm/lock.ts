import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname } from 'node:path';
import { makeFolder } from './cache-folder.js';
import { VmError } from './errors.js';
import { findProgram } from './process.js';

export interface LockOptions {
  /** What is done under this lock, as in 'fetching a kernel': said to who has to wait. */
  what: string;
  progress: (message: string) => void;
  signal?: AbortSignal | undefined;
}

/**
 * Runs `work` while holding a lock on a file, so that of several processes one does it and the others wait.
 * The kernel drops the lock when its holder ends, however that happens: the holder is a `flock` process that
 * lives as long as its input pipe, which this process keeps open.
 */
export async function withLock<T>(
  path: string,
  { what, progress, signal }: LockOptions,
  work: () => Promise<T>,
): Promise<T> {
  const flock = findProgram('flock');
  if (flock === undefined) {
    throw new VmError('ERR_DMABUF_VM_TOOL', "the program 'flock' is missing", { hint: 'Install util-linux' });
  }
  makeFolder(dirname(path));
  signal?.throwIfAborted();
  const holder = spawn(flock, [path, 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    // Ctrl-C is for this process: what it was doing is undone before the lock is dropped.
    detached: true,
  });
  holder.stdin.on('error', () => {});
  const ended = once(holder, 'close');
  ended.catch(() => {}); // reported below, by the code that waits for it
  const waiting = setTimeout(() => progress(`waiting for another run that is ${what}`), 1000);
  const stopWaiting = (): boolean => holder.kill();
  signal?.addEventListener('abort', stopWaiting, { once: true });
  try {
    const held = await Promise.race([once(holder.stdout, 'data').then(() => true), ended.then(() => false)]);
    signal?.removeEventListener('abort', stopWaiting);
    signal?.throwIfAborted();
    if (!held) throw new VmError('ERR_DMABUF_VM_TOOL', `the lock ${path} cannot be taken`);
    clearTimeout(waiting);
    return await work();
  } finally {
    clearTimeout(waiting);
    signal?.removeEventListener('abort', stopWaiting);
    holder.stdin.end();
    await ended.catch(() => {});
  }
}
