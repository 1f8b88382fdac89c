import { resolve } from 'node:path';
import { checkInteger, invalidType, outOfRange, readOptions } from '../check.js';
import { DmaBufError } from '../errors.js';
import { native } from '../native.js';
import { checkSnapshotOptions } from './options.js';
import { defaultPinFolder, explainBpf } from './sources/bpf.js';

/** Where to place the iterators, and who may read them. */
export interface PinOptions {
  /**
   * A folder in a BPF file system; `/sys/fs/bpf/dmabuf` by default. It is created if it does not exist; its parent must
   * exist.
   */
  folder?: string | undefined;
  /** The files' permissions, 0 to 0o777, without write permission for group and others; 0o444 by default. */
  mode?: number | undefined;
  /** The number of the files' group; by default that of the process. */
  gid?: number | undefined;
  /** Also place the iterators that list which process holds what. False by default, which removes older ones. */
  holders?: boolean | undefined;
}

const pinOptions: readonly (keyof PinOptions)[] = ['folder', 'mode', 'gid', 'holders'];

/** The number that stands for the group of the process. */
const unchanged = 2 ** 32 - 1;

/** A user who may write a file could put another program behind it. */
const writableByOthers = 0o022;

/**
 * Places a BPF iterator over all dma-bufs (Linux 6.18) as a file that other users can read without further rights;
 * `snapshot()` finds it in the default folder. It stays until it is removed or the machine restarts, and replaces an
 * older one atomically. Users who may read it see the sizes, exporters and names of all buffers, and with `holders` the
 * ids of the processes that hold them. Returns the paths of the files.
 *
 * The folder and its parent folders must belong to root or to this user and must not be writable by others, unless they
 * are sticky; symbolic links are not followed. Otherwise other users could replace the files by their own.
 *
 * @throws DmaBufError `EPERM` without the rights (CAP_BPF and CAP_PERFMON, or root), or when a folder belongs to another
 *   user; `EINVAL` when the folder is not in a BPF file system; `ENOTDIR` for a symbolic link; `ENOENT` when its parent
 *   does not exist; `EEXIST` when something else is pinned under the name; `ERR_DMABUF_UNSUPPORTED_KERNEL` when the
 *   kernel has no such iterator
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; `ERR_INVALID_ARG_VALUE` for an option that does not exist
 * @throws RangeError `ERR_OUT_OF_RANGE`
 */
export function pinSync(options?: PinOptions): string[] {
  const { folder = defaultPinFolder, mode = 0o444, gid, holders = false } = readOptions(options, pinOptions);
  checkSnapshotOptions({ pinned: folder });
  checkInteger(mode, 'option mode', 0, 0o777);
  if ((mode & writableByOthers) !== 0) {
    throw outOfRange(
      'option mode',
      'without the right to write for group and others',
      `0o${mode.toString(8)}`,
    );
  }
  if (gid !== undefined) checkInteger(gid, 'option gid', 0, 2 ** 32 - 2);
  if (typeof holders !== 'boolean') throw invalidType('option holders', 'a boolean', holders);
  try {
    return native.pinIterators(resolve(folder), holders, mode, gid ?? unchanged);
  } catch (error) {
    throw explainBpf(error);
  }
}

function notEmpty(path: string, left: readonly string[]): DmaBufError {
  const names =
    left.length > 5 ? `${left.slice(0, 5).join(', ')} and ${left.length - 5} more` : left.join(', ');
  return new DmaBufError(`ENOTEMPTY: '${path}' also has what dmabuf pin did not place there: ${names}`, {
    code: 'ENOTEMPTY',
    errno: -39,
    syscall: 'rmdir',
    path,
    hint: 'That and the folder were left alone; remove it yourself if it is not needed',
  });
}

/**
 * Removes the iterators that `pinSync()` has placed, and their folder when it is then empty. Other files in it stay.
 *
 * @throws DmaBufError `ENOENT` when there is nothing, `ENOTEMPTY` when something else is in the folder, `EACCES` without
 *   the rights. The following change nothing: `EINVAL` when the folder is not in a BPF file system, `EPERM` when it or a
 *   parent folder belongs to another user, `ENOTDIR` for a symbolic link
 * @throws TypeError `ERR_INVALID_ARG_TYPE`
 * @throws RangeError `ERR_OUT_OF_RANGE`
 */
export function unpinSync(folder: string = defaultPinFolder): void {
  checkSnapshotOptions({ pinned: folder });
  const path = resolve(folder);
  let left: string[];
  try {
    left = native.unpinIterators(path);
  } catch (error) {
    throw explainBpf(error);
  }
  if (left.length > 0) throw notEmpty(path, left);
}
