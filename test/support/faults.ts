import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { allocateSync, type DmaBuf } from 'dmabuf';
import { loadFences } from './fences.js';
import { mappings } from './proc.js';
import { packageRoot } from './programs.js';

/** Every mapping of the buffer answers with SIGBUS from now on, as if its device had been removed. */
export function loseMemory(buffer: DmaBuf): void {
  const own = mappings().filter((line) => new RegExp(` ${buffer.inode} +/dmabuf:`).test(line));
  assert.ok(own.length > 0, 'the buffer is not mapped');
  for (const line of own) {
    const [start, end] = (line.split(' ')[0] as string).split('-').map((hex) => Number.parseInt(hex, 16));
    loadFences().loseMemory(start as number, (end as number) - (start as number));
  }
}

/** Installs a handler of SIGBUS that cares for the page of `fault()` alone, and exits with 99 for any other. */
export function catchFaults(): void {
  loadFences().catchFaults();
}

/** Reads a byte that is no dma-buf's, with SIGBUS. Returns how many of those have been caught. */
export function fault(): number {
  return loadFences().fault();
}

/** Bytes of the buffers here. */
export const lostSize: number = 64 * 1024;

/** A buffer that is full of sevens, mapped and lost; nobody has noticed yet. */
export function lost(): { buffer: DmaBuf; bytes: Uint8Array } {
  const buffer = allocateSync(lostSize);
  const { bytes } = buffer.map();
  bytes.fill(7);
  loseMemory(buffer);
  return { buffer, bytes };
}

/** The same, and an access has been answered with SIGBUS. */
export function noticed(): { buffer: DmaBuf; bytes: Uint8Array } {
  const { buffer, bytes } = lost();
  assert.equal(bytes[0], 0);
  return { buffer, bytes };
}

/** Another copy of the addon in this process: what it maps and reads. */
export interface OtherCopy {
  importFd(fd: number, take: boolean): number;
  map(handle: number, writable: boolean, offset: number, length: number): ArrayBuffer;
  isLost(handle: number): boolean;
  close(handle: number): void;
}

export function loadCopy(): OtherCopy {
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
  const path = join(folder, 'copy.node');
  copyFileSync(join(packageRoot, 'build/Release/dmabuf.node'), path);
  const copy = createRequire(import.meta.url)(path) as OtherCopy;
  rmSync(folder, { recursive: true });
  return copy;
}
