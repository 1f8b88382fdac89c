import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname } from 'node:path';
import { makeFolder } from './cache-folder.js';
import { VmError } from './errors.js';
import { findProgram } from './process.js';

/**
 * Runs `work` while holding a lock on a file, so that of several processes one does it and the others wait.
 * The kernel drops the lock when its holder ends, however that happens: the holder is a `flock` process that
 * lives as long as its input pipe, which this process keeps open.
 */
export async function withLock<T>(
  path: string,
  options: { progress: (message: string) => void; signal?: AbortSignal | undefined },
  work: () => Promise<T>,
): Promise<T> {
  const flock = findProgram('flock');
  if (flock === undefined) {
    throw new VmError('ERR_DMABUF_VM_TOOL', "the program 'flock' is missing; install util-linux");
  }
  makeFolder(dirname(path));
  const holder = spawn(flock, [path, 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  const ended = once(holder, 'close');
  ended.catch(() => {}); // reported below, by whoever waits for it
  const waiting = setTimeout(
    () => options.progress('waiting for another run that is fetching something'),
    1000,
  );
  try {
    const held = await Promise.race([once(holder.stdout, 'data').then(() => true), ended.then(() => false)]);
    if (!held) throw new VmError('ERR_DMABUF_VM_TOOL', `the lock ${path} cannot be taken`);
    clearTimeout(waiting);
    return await work();
  } finally {
    clearTimeout(waiting);
    holder.stdin.end();
    await ended.catch(() => {});
  }
}
