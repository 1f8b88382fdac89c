import { chmodSync, chownSync, mkdirSync, rmSync, statfsSync } from 'node:fs';
import { checkInteger, checkOptions, invalidType } from '../check.js';
import { DmaBufError, fromNode } from '../errors.js';
import { native } from '../native.js';
import { defaultPinFolder, explainBpf } from './bpf.js';
import { checkSnapshotOptions } from './snapshot.js';

/** Where to place the iterators, and who may read them. */
export interface PinOptions {
  /** A folder in a BPF file system; `/sys/fs/bpf/dmabuf` by default. It is made where there is none, its parent is not. */
  folder?: string | undefined;
  /** The files' permissions, 0 to 0o777; 0o444 by default: everyone. */
  mode?: number | undefined;
  /** The files' group, by its number; that of the process by default. */
  gid?: number | undefined;
  /** Also place the iterators that tell which process holds what; false by default. */
  holders?: boolean | undefined;
}

/** BPF_FS_MAGIC of linux/magic.h. */
const bpfFileSystem = 0xcafe4a11;

const iterators = { buffers: 0, descriptors: 1, mappings: 2 } as const;

function checkBpfFileSystem(folder: string): void {
  if (statfsSync(folder).type === bpfFileSystem) return;
  throw new DmaBufError(`EINVAL: '${folder}' is not in a BPF file system`, {
    code: 'EINVAL',
    errno: -22,
    syscall: 'BPF_OBJ_PIN',
    path: folder,
    hint: 'Mount one, as root: mount -t bpf bpf /sys/fs/bpf',
  });
}

/** Whether it was not there before. Its parent must be: Node's recursive mkdir never ends where sysfs refuses. */
function makeFolder(folder: string): boolean {
  try {
    mkdirSync(folder, 0o755);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/**
 * Places the kernel's iterator over all dma-bufs (Linux 6.18) as a file that others can read without rights of their own;
 * `snapshot()` finds it in the default folder. It stays until it is removed or the machine ends. Whoever may read it sees
 * the sizes, exporters and names of all buffers, and with `holders` the ids of the processes that hold them. Returns the
 * paths of the files.
 *
 * @throws DmaBufError `EPERM` without the rights (CAP_BPF and CAP_PERFMON, or root), `EINVAL` when the folder is in no BPF
 *   file system, `ENOENT` when its parent does not exist, `ERR_DMABUF_UNSUPPORTED_KERNEL` when the kernel has no such
 *   iterator
 * @throws TypeError `ERR_INVALID_ARG_TYPE`
 * @throws RangeError `ERR_OUT_OF_RANGE`
 */
export function pinSync(options: PinOptions = {}): string[] {
  checkOptions(options);
  const { folder = defaultPinFolder, mode = 0o444, gid, holders = false } = options;
  checkSnapshotOptions({ pinned: folder });
  checkInteger(mode, 'option mode', 0, 0o777);
  if (gid !== undefined) checkInteger(gid, 'option gid', 0, 2 ** 32 - 2);
  if (typeof holders !== 'boolean') throw invalidType('option holders', 'a boolean', holders);
  try {
    const made = makeFolder(folder);
    try {
      checkBpfFileSystem(folder);
      return (['buffers', ...(holders ? (['descriptors', 'mappings'] as const) : [])] as const).map(
        (name) => {
          rmSync(`${folder}/${name}`, { force: true });
          const path = native.pinIterator(iterators[name], folder);
          if (gid !== undefined) chownSync(path, 0, gid);
          chmodSync(path, mode);
          return path;
        },
      );
    } catch (error) {
      if (made) rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  } catch (error) {
    throw explainBpf(fromNode(error));
  }
}

/**
 * Removes what `pinSync()` has placed: the folder, with everything in it.
 *
 * @throws DmaBufError `ENOENT` when there is nothing, `EACCES` or `EPERM` without the rights
 * @throws TypeError `ERR_INVALID_ARG_TYPE`
 * @throws RangeError `ERR_OUT_OF_RANGE`
 */
export function unpinSync(folder: string = defaultPinFolder): void {
  checkSnapshotOptions({ pinned: folder });
  try {
    rmSync(folder, { recursive: true });
  } catch (error) {
    throw fromNode(error);
  }
}
