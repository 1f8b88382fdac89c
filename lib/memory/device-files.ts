import { lstatSync, readlinkSync, realpathSync, type Stats, statSync } from 'node:fs';
import { basename } from 'node:path';

// Finds out what is at a path without opening it: to open a FIFO, a terminal or a watchdog has side effects.

/** The folder of the heaps. */
export const heapFolder = '/dev/dma_heap';

export const udmabufDevice = '/dev/udmabuf';

/** A kind of device that makes dma-bufs. */
export type DeviceKind = 'heap' | 'udmabuf';

/** The status of the file at a path; undefined if there is none, or if it may not be inspected. */
export function statusOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/** Whether the path exists, even as a link that leads nowhere; false if that may not be inspected. */
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

/** The path without symbolic links; unchanged if the device has been removed meanwhile. */
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
  // The same as the C library's major() and minor().
  return `${(status.rdev >> 8) & 0xfff}:${(status.rdev & 0xff) | ((status.rdev >> 12) & 0xfff00)}`;
}

/**
 * What there is instead of the device, in words; undefined if it is the device, or if this is unknown. The same rules as
 * in native/os/device.cc.
 */
export function strangerAt(path: string, kind: DeviceKind): string | undefined {
  const status = statusOf(path);
  if (status === undefined) return undefined;
  if (status.isDirectory()) return 'a folder';
  if (status.isFIFO()) return 'a FIFO';
  if (status.isSocket()) return 'a socket';
  if (status.isBlockDevice()) return 'a block device';
  const number = deviceNumberOf(status);
  if (number === undefined) return 'a regular file';
  const device = linkOf(`/sys/dev/char/${number}`);
  if (device === undefined) return undefined;
  const isHeap = basename(linkOf(`/sys/dev/char/${number}/subsystem`) ?? '') === 'dma_heap';
  if (kind === 'heap' ? isHeap : basename(device) === 'udmabuf') return undefined;
  return `the device ${basename(device)} (${number})`;
}
