import type { DmaBuf } from '../buffer/dma-buf.js';
import { type CallSite, DmaBufError } from '../errors.js';
import { native } from '../native.js';
import { finishAllocation, runAllocation } from './allocation.js';
import { withDeviceAdvice } from './device-advice.js';
import { udmabufDevice } from './device-files.js';
import { checkTotal } from './memfd.js';
import { guardMemory, whileReserved } from './memory-guard.js';
import { type BufferRequest, readWrite } from './request.js';

/** The size in whole pages; throws what speaks against this source. */
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

/** Allocates a memfd of its own behind a dma-buf, on the thread pool. */
export function allocateUdmabuf(
  request: BufferRequest,
  signal: AbortSignal | undefined,
  site: CallSite,
): Promise<DmaBuf> {
  const whole = wholePages(request);
  const start = whileReserved(whole, 'charged', (done) =>
    withDeviceAdvice(udmabufDevice, 'udmabuf', () => native.allocateUdmabufAsync(whole, done)),
  );
  return runAllocation(start, request, signal, 'udmabuf', site);
}

/** Allocates a memfd of its own behind a dma-buf. */
export function allocateUdmabufSync(request: BufferRequest): DmaBuf {
  const whole = wholePages(request);
  const slot = withDeviceAdvice(udmabufDevice, 'udmabuf', () => native.allocateUdmabufSync(whole));
  return finishAllocation(slot, request.name, 'udmabuf');
}
