import type { DmaBuf } from '../buffer/dma-buf.js';
import { type CallSite, DmaBufError } from '../errors.js';
import { native, Register, Yielded } from '../native.js';
import { finishAllocation, runAllocation } from './allocation.js';
import { withDeviceAdvice } from './device-advice.js';
import { udmabufDevice } from './device-files.js';
import { checkTotal } from './memfd.js';
import { guardMemory, whileReserved } from './memory-guard.js';
import { type BufferRequest, readWrite } from './request.js';

/** The size in whole pages; throws if this source cannot serve the request. */
function wholePages({ size, accessMode, unchecked }: BufferRequest): number {
  if (accessMode !== readWrite) {
    throw new DmaBufError("ENOTSUP: udmabuf makes descriptors with access 'read-write' only", {
      code: 'ENOTSUP',
    });
  }
  const whole = Math.ceil(size / native.pageSize) * native.pageSize;
  if (!unchecked) guardMemory(whole, 'charged');
  checkTotal(whole);
  return whole;
}

/** Calls `make` with a memfd of so many bytes; afterwards only the dma-buf keeps it. */
function overMemfd<T>(size: number, make: (device: string, pieces: Float64Array) => T): T {
  const memfd = native.createMemfd('dmabuf', size, 0, true);
  native.unclaimed[Yielded.only] = 0;
  try {
    native.describe(memfd);
    const pieces = new Float64Array([native.registers[Register.fd] as number, 0, size]);
    return withDeviceAdvice(udmabufDevice, 'udmabuf', () => make(udmabufDevice, pieces));
  } finally {
    native.close(memfd);
  }
}

/** Allocates a dma-buf of a new memfd, on the thread pool. */
export function allocateUdmabuf(
  request: BufferRequest,
  signal: AbortSignal | undefined,
  site: CallSite,
): Promise<DmaBuf> {
  const whole = wholePages(request);
  const start = whileReserved(whole, 'charged', (done) =>
    overMemfd(whole, (device, pieces) => native.createUdmabufAsync(device, pieces, done)),
  );
  return runAllocation(start, request, signal, 'udmabuf', site);
}

/** Allocates a dma-buf of a new memfd. */
export function allocateUdmabufSync(request: BufferRequest): DmaBuf {
  const whole = wholePages(request);
  const slot = overMemfd(whole, (device, pieces) => native.createUdmabuf(device, pieces));
  return finishAllocation(slot, request.name, 'udmabuf');
}
