import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** One turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Turns the event loop `count` times: more than enough for whatever Node has put off. */
export async function turns(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}

export function collectGarbage(): void {
  assert.ok(globalThis.gc, 'run with --expose-gc');
  globalThis.gc();
}

/** Collects garbage until `condition` holds, and gives up after many rounds. */
export async function collectUntil(condition: () => boolean, what: string): Promise<void> {
  for (let round = 0; round < 200; round++) {
    if (condition()) return;
    collectGarbage();
    await turn();
  }
  assert.fail(`still not so after 200 garbage collections: ${what}`);
}

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

/** Whether the buffer still exists in the kernel, whoever holds it. Inode numbers are never used again. */
export function kernelHas(inode: number): boolean {
  const row = new RegExp(`^\\d{8,}\\t.*\\t0*${inode}\\t`, 'm');
  return row.test(readFileSync(bufinfo, 'latin1'));
}

/** How many buffers of that many bytes there are in the kernel, whoever holds them. */
export function kernelCount(size: number): number {
  const rows = readFileSync(bufinfo, 'latin1').split('\n');
  return rows.filter((row) => /^\d{8,}\t/.test(row) && Number.parseInt(row, 10) === size).length;
}

/** Goes on when `condition` holds. The kernel may close later what was on its way or belonged to a process that ended. */
export async function eventually(condition: () => boolean, what: string): Promise<void> {
  for (let round = 0; round < 3000; round++) {
    if (condition()) return;
    await turn();
  }
  assert.fail(`still not so after 3000 turns of the event loop: ${what}`);
}

/** Goes on when the kernel has none of these buffers any more. */
export async function untilGone(inodes: readonly number[]): Promise<void> {
  for (const inode of inodes) await eventually(() => !kernelHas(inode), `buffer ${inode} is freed`);
}

/** Closes `fd` behind its owner's back and has /dev/null take its number. The caller closes that. */
export function replaceByStranger(fd: number): void {
  closeSync(fd);
  const others: number[] = [];
  for (let opened = openSync('/dev/null', 'r'); opened !== fd; opened = openSync('/dev/null', 'r')) {
    others.push(opened);
  }
  for (const other of others) closeSync(other);
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
