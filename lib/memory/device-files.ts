import { lstatSync, readlinkSync, realpathSync, type Stats, statSync } from 'node:fs';
import { basename } from 'node:path';

// What lies at a path, without opening it: whoever opens a FIFO, a terminal or a watchdog is noticed.

/** The folder of the heaps. */
export const heapFolder = '/dev/dma_heap';

export const udmabufDevice = '/dev/udmabuf';

/** What makes dma-bufs. */
export type DeviceKind = 'heap' | 'udmabuf';

/** The file at a path; undefined where there is none, or it may not be looked at. */
export function statusOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/** Whether the path names something, be it a link that leads nowhere; not where that may not be looked at. */
export function isNamed(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}

/** Where a symbolic link leads; undefined for anything else. */
export function linkOf(path: string): string | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ? readlinkSync(path) : undefined;
  } catch {
    return undefined;
  }
}

/** The path without symbolic links; as it is where the device went away meanwhile. */
export function realPathOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** A character device's number as the kernel writes it, `'10:124'`. */
export function deviceNumberOf(status: Stats | undefined): string | undefined {
  if (!status?.isCharacterDevice()) return undefined;
  // As the C library's major() and minor() have it.
  return `${(status.rdev >> 8) & 0xfff}:${(status.rdev & 0xff) | ((status.rdev >> 12) & 0xfff00)}`;
}

/** What there is in place of the device, in words; undefined where it is the device, or nobody can tell. As native/os/device.cc. */
export function strangerAt(path: string, kind: DeviceKind): string | undefined {
  const status = statusOf(path);
  if (status === undefined) return undefined;
  if (status.isDirectory()) return 'a folder';
  if (status.isFIFO()) return 'a FIFO';
  if (status.isSocket()) return 'a socket';
  if (status.isBlockDevice()) return 'a block device';
  const number = deviceNumberOf(status);
  if (number === undefined) return 'an ordinary file';
  const device = linkOf(`/sys/dev/char/${number}`);
  if (device === undefined) return undefined;
  const isHeap = basename(linkOf(`/sys/dev/char/${number}/subsystem`) ?? '') === 'dma_heap';
  if (kind === 'heap' ? isHeap : basename(device) === 'udmabuf') return undefined;
  return `the device ${basename(device)} (${number})`;
}
