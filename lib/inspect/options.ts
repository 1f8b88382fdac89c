import { checkInteger, invalidType, outOfRange, readOptions } from '../check.js';
import { isArray, itemsOf } from '../intrinsics.js';
import type { SnapshotSource } from './model.js';
import { defaultPinFolder } from './sources/bpf.js';

/** What to inspect, and how. */
export interface SnapshotOptions {
  /**
   * Report only these processes and the buffers that they hold; `pss` still divides each buffer among all its holders.
   */
  pids?: readonly number[] | undefined;
  /**
   * `'auto'` (the default) uses the best sources that are permitted: for the buffers the BPF iterator (Linux 6.18),
   * loaded or pinned, then debugfs, then sysfs; for their holders BPF, then procfs. A name uses that source alone;
   * debugfs and sysfs do not list holders.
   */
  source?: SnapshotSource | 'auto' | undefined;
  /** Also read from debugfs which devices are attached to the buffers: slow, and only for root. */
  devices?: boolean | undefined;
  /**
   * The folder where `dmabuf pin` has placed the BPF iterators; `/sys/fs/bpf/dmabuf` by default. It is trusted only
   * when nobody but root and this user can have put anything there.
   */
  pinned?: string | undefined;
}

/** The names of the options. */
export const optionNames: readonly string[] = ['pids', 'source', 'devices', 'pinned'];

const sources: readonly unknown[] = ['auto', 'procfs', 'bpf', 'debugfs', 'sysfs'];

function checkPids(pids: unknown): number[] | undefined {
  if (pids === undefined) return undefined;
  if (!isArray(pids)) throw invalidType('option pids', 'an array of process ids', pids);
  return itemsOf(pids).map((pid) => checkInteger(pid, 'process id in the option pids', 1, 2 ** 31 - 1));
}

/** The options, checked. */
export interface CheckedOptions {
  pids: number[] | undefined;
  source: SnapshotSource | 'auto';
  devices: boolean;
  pinned: string;
}

/** Checks what the user gave. */
export function checkSnapshotOptions(options: SnapshotOptions | undefined): CheckedOptions {
  const {
    source = 'auto',
    devices = false,
    pinned = defaultPinFolder,
    pids,
  } = readOptions(options, optionNames);
  if (typeof source !== 'string') throw invalidType('option source', 'a string', source);
  if (!sources.includes(source)) {
    throw outOfRange('option source', "'auto', 'procfs', 'bpf', 'debugfs' or 'sysfs'", source);
  }
  if (typeof devices !== 'boolean') throw invalidType('option devices', 'a boolean', devices);
  if (typeof pinned !== 'string') throw invalidType('option pinned', 'a string', pinned);
  if (pinned === '' || pinned.includes('\0') || Buffer.byteLength(pinned) > 4000) {
    throw outOfRange('option pinned', 'the path of a folder', pinned);
  }
  return { pids: checkPids(pids), source, devices, pinned };
}
