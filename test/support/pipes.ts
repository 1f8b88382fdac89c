import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { turn } from './event-loop.js';

/** A pipe's two ends in one descriptor: what blocks one thread is resolved by another. */
export async function withPipe(fn: (pipe: number) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
  const path = join(folder, 'pipe');
  execFileSync('mkfifo', [path]);
  const pipe = openSync(path, constants.O_RDWR);
  try {
    await fn(pipe);
  } finally {
    closeSync(pipe);
    rmSync(folder, { recursive: true });
  }
}

/** Empties a pipe into `target` until the writer is done; returns how many bytes came. */
export async function drain(pipe: number, target: Uint8Array, writer: Promise<unknown>): Promise<number> {
  const end = openSync(`/proc/self/fd/${pipe}`, constants.O_RDONLY | constants.O_NONBLOCK);
  let done = false;
  writer.then(
    () => {
      done = true;
    },
    () => {
      done = true;
    },
  );
  for (let count = 0; ; await turn()) {
    const last = done;
    try {
      while (count < target.length) count += readSync(end, target, count, target.length - count, null);
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'EAGAIN');
    }
    if (count < target.length && !last) continue;
    closeSync(end);
    return count;
  }
}
