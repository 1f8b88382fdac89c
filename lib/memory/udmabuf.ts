import type { DmaBuf } from '../buffer/dma-buf.js';
import type { Access } from '../check.js';
import { callSite, DmaBufError } from '../errors.js';
import { native } from '../native.js';
import { finishAllocation, runAllocation } from './allocation.js';
import { withDeviceAdvice } from './device-advice.js';
import { udmabufDevice } from './device-files.js';
import { checkTotal } from './memfd.js';
import { guardMemory, whileReserved } from './memory-guard.js';

/** What the source `'udmabuf'` is asked for. */
interface UdmabufRequest {
  name?: string | undefined;
  access?: Access | undefined;
  unchecked?: boolean | undefined;
}

/** The size in whole pages; throws what speaks against this source. */
function checkRequest(size: number, { access, unchecked }: UdmabufRequest): number {
  if (access !== undefined && access !== 'read-write') {
    throw new DmaBufError("ENOTSUP: udmabuf makes descriptors with access 'read-write' only", {
      code: 'ENOTSUP',
    });
  }
  const whole = Math.ceil(size / native.pageSize) * native.pageSize;
  if (unchecked !== true) guardMemory(whole, 'charged');
  checkTotal(whole);
  return whole;
}

/** Allocates a memfd of its own behind a dma-buf, on the thread pool. The arguments have been checked. */
export async function allocateUdmabuf(
  size: number,
  options: UdmabufRequest & { signal: AbortSignal | undefined },
): Promise<DmaBuf> {
  const whole = checkRequest(size, options);
  const site = callSite(allocateUdmabuf);
  return await runAllocation(
    whileReserved(whole, 'charged', (done) =>
      withDeviceAdvice(udmabufDevice, 'udmabuf', () => native.allocateUdmabufAsync(whole, done)),
    ),
    options,
    'udmabuf',
    site,
  );
}

/** Allocates a memfd of its own behind a dma-buf. The arguments have been checked. */
export function allocateUdmabufSync(size: number, options: UdmabufRequest): DmaBuf {
  const whole = checkRequest(size, options);
  const handle = withDeviceAdvice(udmabufDevice, 'udmabuf', () => native.allocateUdmabufSync(whole));
  return finishAllocation(handle, options.name, 'udmabuf');
}
