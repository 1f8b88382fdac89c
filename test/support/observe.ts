import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { until } from './event-loop.js';

/** The process's descriptors whose target starts with `prefix`: how many. */
function countFds(prefix: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(prefix);
    } catch {
      return false; // The descriptor that the listing itself used.
    }
  }).length;
}

/** Open descriptors of dma-bufs. */
export function bufferFds(): number {
  return countFds('/dmabuf:');
}

/** Open descriptors of heaps. */
export function heapFds(): number {
  return countFds('/dev/dma_heap/');
}

/** Open descriptors of sockets: channels, servers, and those of Node itself. */
export function socketFds(): number {
  return countFds('socket:');
}

/** Entries of /proc/self/maps. */
export function mapEntries(): string[] {
  return readFileSync('/proc/self/maps', 'latin1').trimEnd().split('\n');
}

/** Ranges of the process that show a dma-buf: of the one with this inode, or of any. */
export function mappedRanges(inode?: number): number {
  return mapEntries().filter((line) => {
    const [, number] = / (\d+) +\/dmabuf:/.exec(line) ?? [];
    return number !== undefined && (inode === undefined || Number(number) === inode);
  }).length;
}

const bufinfo = '/sys/kernel/debug/dma_buf/bufinfo';

/** Why the kernel's own list of buffers cannot be read; false when it can. */
export const noKernelList: string | false = existsSync(bufinfo)
  ? false
  : `${bufinfo} cannot be read (root, debugfs)`;

/** Whether the buffer still exists in the kernel, in any process. Inode numbers are never used again. */
export function kernelHas(inode: number): boolean {
  const row = new RegExp(`^\\d{8,}\\t.*\\t0*${inode}\\t`, 'm');
  return row.test(readFileSync(bufinfo, 'latin1'));
}

/** How many buffers of that many bytes there are in the kernel, of all processes. */
export function kernelCount(size: number): number {
  const rows = readFileSync(bufinfo, 'latin1').split('\n');
  return rows.filter((row) => /^\d{8,}\t/.test(row) && Number.parseInt(row, 10) === size).length;
}

/** Resolves when the kernel no longer has any of these buffers. */
export async function untilGone(inodes: readonly number[]): Promise<void> {
  for (const inode of inodes) await until(() => !kernelHas(inode), `buffer ${inode} is freed`);
}

/** Does what a detached ArrayBuffer refuses and zeros allow. */
export function tryOnReleased(fn: () => unknown): void {
  try {
    fn();
  } catch (error) {
    assert.ok(error instanceof TypeError, String(error));
  }
}

/** Released memory: an ArrayBuffer of length 0, or zeros. Writing there is allowed. */
export function assertReleased(bytes: Uint8Array): void {
  if (bytes.length === 0) return; // of a detached ArrayBuffer, which refuses even to be looked at
  assert.ok(
    bytes.every((byte) => byte === 0),
    'released memory still shows bytes',
  );
  bytes.fill(0x5a).fill(0);
}

export function assertFilled(bytes: Uint8Array, length: number, value: number): void {
  assert.equal(bytes.length, length);
  assert.ok(
    bytes.every((byte) => byte === value),
    `not all bytes are ${value}`,
  );
}
