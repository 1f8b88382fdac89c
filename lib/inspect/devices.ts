import { textOfHint } from '../errors.js';
import { adviceForUnlistable, deviceAdvice } from '../memory/device-advice.js';
import { heapFolder, udmabufDevice } from '../memory/device-files.js';
import { DmaHeap } from '../memory/dma-heap.js';
import { access, type HeapInfo, type HeapKind } from '../memory/heap-list.js';

/** A device that makes dma-bufs for users: a heap, or /dev/udmabuf. */
export interface MemoryDevice extends Omit<HeapInfo, 'kind'> {
  kind: HeapKind | 'udmabuf';
  /** What to do if it is not accessible, as far as this is known. */
  fix?: string;
}

function describeUdmabuf(): MemoryDevice {
  return { name: 'udmabuf', path: udmabufDevice, kind: 'udmabuf', ...access(udmabufDevice, 'udmabuf') };
}

/** Every heap, and /dev/udmabuf even if it does not exist. */
export function listDevices(): MemoryDevice[] {
  const devices: MemoryDevice[] = [...DmaHeap.list(), describeUdmabuf()];
  for (const device of devices) {
    if (device.error === undefined) continue;
    const { path, kind, error } = device;
    const advice =
      path === heapFolder
        ? adviceForUnlistable(path)
        : deviceAdvice(error, path, kind === 'udmabuf' ? 'udmabuf' : 'heap');
    if (advice !== undefined) device.fix = textOfHint(advice);
  }
  return devices;
}
