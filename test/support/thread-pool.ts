import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, read, rmSync, stat, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** More than libuv's thread pool has threads. */
const jobs = 2 * Number(process.env.UV_THREADPOOL_SIZE ?? 4);

/**
 * Runs `fn` while every thread of libuv's pool sleeps in the kernel and more work is queued. What needs the pool
 * cannot be done before `fn` is over.
 */
export async function withFullThreadPool<T>(fn: () => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
  const path = join(directory, 'fifo');
  execFileSync('mkfifo', [path]);
  const fifo = openSync(path, constants.O_RDWR);
  const reads = Array.from(
    { length: jobs },
    () =>
      new Promise<void>((resolve, reject) =>
        read(fifo, Buffer.alloc(1), 0, 1, null, (error) => (error ? reject(error) : resolve())),
      ),
  );
  let pastThem = false;
  const canary = new Promise<void>((resolve) =>
    stat(path, () => {
      pastThem = true;
      resolve();
    }),
  );
  try {
    const result = await fn();
    assert.equal(pastThem, false, 'the thread pool was not full');
    return result;
  } finally {
    writeSync(fifo, Buffer.alloc(jobs));
    await Promise.all([...reads, canary]);
    closeSync(fifo);
    rmSync(directory, { recursive: true });
  }
}
