// Small files of /proc, read with three system calls each: readFileSync() makes and clears half a megabyte for a file whose
// size it does not know, which takes longer under emulation than most tests.

import { closeSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs';

let space = Buffer.allocUnsafeSlow(1 << 16);

/** The bytes of a file, valid until the next call. */
function readBytes(path: string): Buffer {
  const fd = openSync(path, 'r');
  try {
    let length = 0;
    for (;;) {
      const count = readSync(fd, space, length, space.length - length, null);
      if (count === 0) return space.subarray(0, length);
      length += count;
      if (length === space.length) space = Buffer.concat([space, Buffer.allocUnsafeSlow(length)]);
    }
  } finally {
    closeSync(fd);
  }
}

/** A process's threads by their numbers, with their names. */
export function threads(pid: number | 'self' = 'self'): Map<string, string> {
  return entries(`/proc/${pid}/task`, (path) => readBytes(`${path}/comm`).toString('latin1').trimEnd());
}

/** This process's descriptors, and what each refers to. */
export function descriptors(): Map<string, string> {
  return entries('/proc/self/fd', (path) => readlinkSync(path));
}

/** The text of a file in /proc. */
export function readProc(path: string): string {
  return readBytes(path).toString('latin1');
}

/** The lines of /proc/self/maps that show dma-bufs. */
export function mappings(): string[] {
  const maps = readBytes('/proc/self/maps');
  if (!maps.includes('/dmabuf:')) return [];
  return maps
    .toString('latin1')
    .split('\n')
    .filter((line) => line.includes('/dmabuf:'));
}

function entries(folder: string, describe: (path: string) => string): Map<string, string> {
  const found = new Map<string, string>();
  for (const entry of readdirSync(folder)) {
    try {
      found.set(entry, describe(`${folder}/${entry}`));
    } catch {
      // It has gone: the descriptor that the listing used, or a thread.
    }
  }
  return found;
}
