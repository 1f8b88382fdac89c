import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DmaBufChannel } from 'dmabuf';
import { turns, watch } from './event-loop.js';
import { next } from './messages.js';
import type { OwnedFd } from './sockets.js';

/** Two ends for `using`. */
export class Pair implements Disposable {
  readonly here: DmaBufChannel;
  readonly there: DmaBufChannel;

  constructor(options?: { maxMessageSize?: number }) {
    [this.here, this.there] = DmaBufChannel.pair(options);
  }

  [Symbol.dispose](): void {
    this.here.close();
    this.there.close();
  }
}

/** A channel to a foreign program's end. */
export function adopt(end: OwnedFd, options?: { maxMessageSize?: number }): DmaBufChannel {
  const channel = DmaBufChannel.adopt(end.fd, options);
  end.release();
  return channel;
}

/** A new folder for `using`. */
export class Folder implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));

  file(name = 'socket'): string {
    return join(this.path, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}

/** Writes a sysctl while `fn` runs. */
function withSysctl<T>(path: string, value: number, fn: () => T): T {
  const before = readFileSync(path, 'latin1');
  const restore = (): void => writeFileSync(path, before);
  writeFileSync(path, String(value));
  try {
    const result = fn();
    if (result instanceof Promise) return result.finally(restore) as T;
    restore();
    return result;
  } catch (error) {
    restore();
    throw error;
  }
}

/** Runs `fn` while an ordinary user's sockets may send so many bytes. */
export function withWmemMax<T>(bytes: number, fn: () => T): T {
  return withSysctl('/proc/sys/net/core/wmem_max', bytes, fn);
}

/** Runs `fn` while so many, and one, may wait to be accepted by a server that is made now. */
export function withSomaxconn<T>(count: number, fn: () => T): T {
  return withSysctl('/proc/sys/net/core/somaxconn', count, fn);
}

/** Runs `fn` under another ptrace scope of the security module Yama. Never 3: that cannot be taken back. */
export function withPtraceScope<T>(scope: 0 | 1 | 2, fn: () => T): T {
  return withSysctl('/proc/sys/kernel/yama/ptrace_scope', scope, fn);
}

const filler = Buffer.alloc(16 * 1024, 'filler ');

/** Sends until the socket is full, and returns how many messages it took. */
export async function fill(channel: DmaBufChannel): Promise<number> {
  for (let taken = 0; ; taken++) {
    const controller = new AbortController();
    const message = watch(channel.send(filler, [], { signal: controller.signal }));
    await turns();
    if (message.state === 'fulfilled') continue;
    assert.equal(message.state, 'pending');
    controller.abort();
    await turns();
    return taken;
  }
}

/** Receives what `fill()` has sent. */
export async function drain(channel: DmaBufChannel, count: number): Promise<void> {
  for (let index = 0; index < count; index++) {
    assert.equal(Buffer.compare((await next(channel)).data, filler), 0, `message ${index} is not the filler`);
  }
}
