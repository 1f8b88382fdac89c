import { describeErrno } from '../errnos.js';
import { native, Register, type Slot } from '../native.js';

/** Whether a fence, or a file of fences, has signalled (`'active'`: not yet), and if so, whether its work succeeded. */
export type FenceStatus = 'active' | 'signaled' | 'error';

/** One fence: a point in a device's work (struct sync_fence_info). */
export interface FenceInfo {
  /** The timeline it belongs to, as its driver names it. */
  timeline: string;
  /** The driver's name. */
  driver: string;
  /** Whether the device is done. */
  status: FenceStatus;
  /** The errno's name, with status `'error'`. */
  error?: string;
  /** When it signalled: CLOCK_MONOTONIC nanoseconds as `process.hrtime.bigint()` counts, 0 while it is active. */
  timestamp: bigint;
}

/** The information of SYNC_IOC_FILE_INFO about a sync_file. */
export interface SyncFileInfo {
  /** The name that it got when it was made or merged. */
  name: string;
  /** The status of all fences together. */
  status: FenceStatus;
  /** The errno's name, with status `'error'`. */
  error?: string;
  /** The fences, one by one. */
  fences: FenceInfo[];
}

/** The code of a negative errno. */
export const errnoName: (errno: number) => string = (errno) => describeErrno(errno)[0];

/** The status for the kernel's number. */
export function statusOf(value: number): FenceStatus {
  if (value === 0) return 'active';
  return value > 0 ? 'signaled' : 'error';
}

/** How many fences fit into the addon's registers. */
const fewFences = 8;

/** Decodes what the addon has returned, from `first` in `numbers` on. */
function toInfo(text: string, numbers: Float64Array, bits: BigUint64Array, first: number): SyncFileInfo {
  const registers = native.registers;
  const count = registers[Register.fenceCount] as number;
  const fences: FenceInfo[] = [];
  let end = text.indexOf('\0');
  const name = end < 0 ? text : text.slice(0, end);
  for (let index = first; index < first + 2 * count; index += 2) {
    const middle = text.indexOf('\0', end + 1);
    const start = end + 1;
    end = text.indexOf('\0', middle + 1);
    if (end < 0) end = text.length;
    const status = numbers[index] as number;
    const fence: FenceInfo = {
      timeline: text.slice(start, middle),
      driver: text.slice(middle + 1, end),
      status: statusOf(status),
      timestamp: bits[index + 1] as bigint,
    };
    if (status < 0) fence.error = errnoName(status);
    fences.push(fence);
  }
  const status = registers[Register.status] as number;
  const info: SyncFileInfo = { name, status: statusOf(status), fences };
  if (status < 0) info.error = errnoName(status);
  return info;
}

/** What the kernel says about a sync_file now. */
export function readInfo(slot: Slot): SyncFileInfo {
  const text = native.syncFileInfo(slot);
  let count = native.registers[Register.fenceCount] as number;
  if (count <= fewFences) {
    return toInfo(text, native.registers, native.registerBits, Register.fences);
  }
  for (;;) {
    const room = count;
    const numbers = new Float64Array(2 * room);
    const names = native.syncFileInfoOfMany(slot, numbers);
    count = native.registers[Register.fenceCount] as number;
    if (count <= room) {
      return toInfo(names, numbers, new BigUint64Array(numbers.buffer), 0);
    }
  }
}
