import { atCallSite, callSite, DmaBufError } from '../errors.js';
import { collect, collectFrom } from './collect.js';
import type { Snapshot } from './model.js';
import { type CheckedOptions, checkSnapshotOptions, type SnapshotOptions } from './options.js';

/**
 * All dma-bufs that may be seen, and who holds them.
 *
 * Whatever may not be read is counted in `unreadable` and explained in `attempts`; that is no error. Fields that no
 * source could tell are absent. Processes and buffers that come or go meanwhile may be in it or not; each buffer is there
 * once.
 *
 * ```js
 * const { total, processes } = await snapshot();
 * console.log(total.size, processes[0]?.command);
 * ```
 *
 * @throws DmaBufError the kernel's errno when the one source asked for refuses; `ERR_DMABUF_UNSUPPORTED_KERNEL` when the
 *   kernel does not have it; `ERR_DMABUF_NO_SOURCE` with `attempts` when there is not even procfs
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; `ERR_INVALID_ARG_VALUE` for an option that does not exist
 * @throws RangeError `ERR_OUT_OF_RANGE`
 */
export async function snapshot(options?: SnapshotOptions): Promise<Snapshot> {
  const checked = checkSnapshotOptions(options);
  const site = callSite(snapshot);
  try {
    return await take(checked);
  } catch (error) {
    throw error instanceof DmaBufError ? atCallSite(error, site) : error;
  }
}

/** Takes a snapshot as checked options say. */
export function take(checked: CheckedOptions): Promise<Snapshot> {
  return checked.source === 'auto' ? collect(checked) : collectFrom(checked.source, checked);
}
