import { adviceForUnlistable, deviceAdvice } from '../device-advice.js';
import { access, DmaHeap, type HeapInfo, type HeapKind } from '../dma-heap.js';

/** Stands among the heaps where it cannot be listed. */
export const heapFolder = '/dev/dma_heap';

/** A device that makes dma-bufs for users: a heap, or /dev/udmabuf. */
export interface MemoryDevice extends Omit<HeapInfo, 'kind'> {
  kind: HeapKind | 'udmabuf';
  /** What to do where it is not accessible, if that is known. */
  fix?: string;
}

function describeUdmabuf(): MemoryDevice {
  const path = '/dev/udmabuf';
  return { name: 'udmabuf', path, kind: 'udmabuf', ...access(path) };
}

/** Every heap, and /dev/udmabuf whether it is there or not. */
export function listDevices(): MemoryDevice[] {
  const devices: MemoryDevice[] = [...DmaHeap.list(), describeUdmabuf()];
  for (const device of devices) {
    if (device.error === undefined) continue;
    const isFolder = device.path === heapFolder;
    const fix = isFolder ? adviceForUnlistable(device.path) : deviceAdvice(device.error, device.path);
    if (fix !== undefined) device.fix = fix;
  }
  return devices;
}
