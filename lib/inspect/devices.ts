import { closeSync, constants, openSync } from 'node:fs';
import { DmaHeap, type HeapInfo, type HeapKind } from '../dma-heap.js';
import { adviceFor } from '../errors.js';

/** A device that makes dma-bufs for users: a heap, or /dev/udmabuf. */
export interface MemoryDevice extends Omit<HeapInfo, 'kind'> {
  kind: HeapKind | 'udmabuf';
  /** What to do where it is not accessible, if that is known. */
  fix?: string;
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
    const fix = device.error === undefined ? undefined : adviceFor(device.error, 'open', device.path);
    if (fix !== undefined) device.fix = fix;
  }
  return devices;
}
