import { closeSync, constants, openSync } from 'node:fs';
import { constants as systemConstants } from 'node:os';
import { DmaHeap, type HeapInfo, type HeapKind } from '../dma-heap.js';
import { createError } from '../errors.js';

/** A device that makes dma-bufs for users: a heap, or /dev/udmabuf. */
export interface MemoryDevice extends Omit<HeapInfo, 'kind'> {
  kind: HeapKind | 'udmabuf';
  /** What to do where it is not accessible, if that is known. */
  fix?: string;
}

const errnos: Readonly<Record<string, number | undefined>> = systemConstants.errno;

/** What the library advises when `path` cannot be opened. */
export function fixFor(error: string, path: string): string | undefined {
  const { message } = createError(-(errnos[error] ?? 0), 'open', path);
  const advice = message.indexOf(`'${path}'. `);
  return advice < 0 ? undefined : message.slice(advice + path.length + 4);
}

function describeUdmabuf(): MemoryDevice {
  const path = '/dev/udmabuf';
  const device: MemoryDevice = { name: 'udmabuf', path, kind: 'udmabuf', accessible: true };
  try {
    closeSync(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
  } catch (error) {
    device.accessible = false;
    device.error = (error as NodeJS.ErrnoException).code ?? String(error);
  }
  return device;
}

/** Every heap, and /dev/udmabuf whether it is there or not. */
export function listDevices(): MemoryDevice[] {
  const devices: MemoryDevice[] = [...DmaHeap.list(), describeUdmabuf()];
  for (const device of devices) {
    const fix = device.error === undefined ? undefined : fixFor(device.error, device.path);
    if (fix !== undefined) device.fix = fix;
  }
  return devices;
}
