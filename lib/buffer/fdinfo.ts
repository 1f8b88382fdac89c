import { checkFd, checkInteger, invalidType } from '../check.js';
import { native, Register } from '../native.js';
import './advice.js';

/** What the kernel says about one open dma-buf in `/proc/<pid>/fdinfo/<fd>` (Linux 5.3; `inode` 5.15). */
export interface DmaBufInfo {
  /** Identifies the buffer on the whole system; 0 if the kernel does not print it (before 5.15). */
  inode: number;
  /** The size in bytes. */
  size: number;
  /** The driver that made the buffer: `'system'` (a heap's name), `'udmabuf'`, `'drm'`, … */
  exporter: string;
  /**
   * Absent when unset. Any process that holds the buffer may set it to any bytes: escape it when you show it, and do not
   * rely on it.
   */
  name?: string;
  /** How many references to the buffer exist anywhere: descriptors, mappings, drivers, messages in flight. */
  references: number;
  /** The descriptor's flags, as in open(2): `O_CLOEXEC`, the access mode. */
  flags: number;
}

/** The info whose strings the addon has returned, and whose numbers it has left in the registers. */
export function toInfo(strings: [string, string?]): DmaBufInfo {
  const registers = native.registers;
  const info: DmaBufInfo = {
    inode: registers[Register.inode] as number,
    size: registers[Register.size] as number,
    exporter: strings[0],
    references: registers[Register.references] as number,
    flags: registers[Register.flags] as number,
  };
  if (strings[1] !== undefined) info.name = strings[1];
  return info;
}

/**
 * Parses the text of an fdinfo file; `undefined` when it is not a dma-buf's, or when it has a figure of 2^53 or more,
 * which a number cannot represent exactly.
 *
 * The kernel prints names unescaped, newlines included, so a name can contain lines that look like the kernel's own. This
 * parser takes everything after the first `name:` as the name; nothing in it can change another field. Bytes that are not
 * UTF-8 become U+FFFD.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`
 */
export function parseFdInfo(text: string | Uint8Array): DmaBufInfo | undefined {
  if (typeof text !== 'string' && !(text instanceof Uint8Array)) {
    throw invalidType('text', 'a string or a Uint8Array', text);
  }
  const strings = native.parseFdInfo(typeof text === 'string' ? Buffer.from(text) : text);
  return strings && toInfo(strings);
}

/**
 * Reads and parses `/proc/<pid>/fdinfo/<fd>`; `undefined` when the descriptor is not a dma-buf's.
 *
 * @param pid A process id, or `'self'`.
 * @throws DmaBufError `ENOENT` (no such process or descriptor), `EACCES` (the process is another user's), `ETIMEDOUT`
 *   (the process has blocked the inspection for a second; it is not inspected again until it stops blocking), `EAGAIN`
 *   (no thread could be created to inspect another process)
 * @throws TypeError `ERR_INVALID_ARG_TYPE`
 * @throws RangeError `ERR_OUT_OF_RANGE`
 */
export function readFdInfo(pid: number | 'self', fd: number): DmaBufInfo | undefined {
  const process = pid === 'self' ? 0 : checkInteger(pid, 'pid', 1, 2 ** 31 - 1);
  const strings = native.readFdInfo(process, checkFd(fd));
  return strings && toInfo(strings);
}
