import { closeSync, existsSync, openSync } from 'node:fs';
import { SyncFile } from 'dmabuf';
import { loadFences } from './fences.js';
import { kernelTest, type TestBody } from './kernel-test.js';

const path = '/sys/kernel/debug/sync/sw_sync';

/** Why no fences of sw_sync can be made here; false when they can. */
export const noSwSync: string | false = existsSync(path)
  ? false
  : `${path} does not exist: dmabuf vm --modules sw_sync`;

/** The requests of the kernel's drivers/dma-buf/sw_sync.c. */
const createFence = 0xc028_5700;
const increment = 0x4004_5701;
const getDeadline = 0xc010_5702;

/** A timeline of sw_sync: its fences signal as it passes their points, and fail (ENOENT) when it is closed before. */
export class Timeline implements Disposable {
  #fd = openSync(path, 'r+');

  /** A file of the fence that signals at a point. */
  fence(point = 1, name = 'fence'): SyncFile {
    const request = Buffer.alloc(40);
    request.writeUInt32LE(point, 0);
    request.write(name, 4, 31);
    loadFences().control(this.#fd, createFence, request);
    return SyncFile.adopt(request.readInt32LE(36));
  }

  advance(steps = 1): void {
    const request = Buffer.alloc(4);
    request.writeUInt32LE(steps);
    loadFences().control(this.#fd, increment, request);
  }

  /** The deadline that a fence of this timeline was told. */
  deadlineOf(file: SyncFile): bigint {
    const request = Buffer.alloc(16);
    request.writeInt32LE(file.fd, 12);
    loadFences().control(this.#fd, getDeadline, request);
    return request.readBigUInt64LE(0);
  }

  /** Ends what has not signalled in an error. */
  close(): void {
    if (this.#fd < 0) return;
    closeSync(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A `kernelTest` that needs fences of sw_sync. */
export function swSyncTest(name: string, body: TestBody): void {
  kernelTest(name, body, noSwSync);
}
