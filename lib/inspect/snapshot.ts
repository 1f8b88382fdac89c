import { atCallSite, callSite, DmaBufError } from '../errors.js';
import { collect, collectFrom } from './collect.js';
import type { Snapshot } from './model.js';
import { type CheckedOptions, checkSnapshotOptions, type SnapshotOptions } from './options.js';

/**
 * Lists all dma-bufs that this process may see, and the processes that hold them.
 *
 * What may not be read is listed in `unreadable` and explained in `attempts`; this is not an error. Fields whose value
 * no source knows are absent. Processes and buffers that appear or disappear meanwhile may be in the snapshot or not;
 * each buffer is in it once.
 *
 * ```js
 * const { total, processes } = await snapshot();
 * console.log(total.size, processes[0]?.command);
 * ```
 *
 * @throws DmaBufError the kernel's errno when the one requested source refuses; `ERR_DMABUF_UNSUPPORTED_KERNEL` when the kernel does not have it; `ERR_DMABUF_NO_SOURCE` with `attempts` when not even procfs can be read
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

/** Takes a snapshot with checked options. */
export function take(checked: CheckedOptions): Promise<Snapshot> {
  return checked.source === 'auto' ? collect(checked) : collectFrom(checked.source, checked);
}
