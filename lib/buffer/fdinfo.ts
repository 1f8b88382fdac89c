import { checkFd, checkInteger, invalidType } from '../check.js';
import { native, Register } from '../native.js';
import './advice.js';

/** What the kernel says of one open dma-buf in `/proc/<pid>/fdinfo/<fd>` (Linux 5.3; `inode` 5.15). */
export interface DmaBufInfo {
  /** Identifies the buffer on the whole system; 0 where the kernel does not print it (before 5.15). */
  inode: number;
  /** Bytes. */
  size: number;
  /** The driver that made the buffer: `'system'` (a heap's name), `'udmabuf'`, `'drm'`, … */
  exporter: string;
  /** Absent when unset. Any user of the buffer may set it to any bytes: show it escaped, trust it in nothing. */
  name?: string;
  /** How many hold the buffer, anywhere: descriptors, mappings, drivers, messages in flight. */
  references: number;
  /** The descriptor's flags as open(2) has them: `O_CLOEXEC`, the access mode. */
  flags: number;
}

/** The info of which the addon has returned the strings and left the numbers in the registers. */
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
 * Parses the text of an fdinfo file; `undefined` when it is not a dma-buf's, or a figure in it is 2^53 or more, which no number
 * tells from its neighbours.
 *
 * The kernel prints names unescaped, newlines included, so a name can contain lines that look like the
 * kernel's own. This parser takes everything after the first `name:` as the name; nothing in it can change
 * another field. Bytes that are no UTF-8 become U+FFFD.
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
 * @throws DmaBufError `ENOENT` (no such process or descriptor), `EACCES` (the process is another user's), `ETIMEDOUT` (it has
 *   kept this waiting for a second, and is not asked again before it lets go), `EAGAIN` (no thread could be made to look at
 *   another process)
 * @throws TypeError `ERR_INVALID_ARG_TYPE`
 * @throws RangeError `ERR_OUT_OF_RANGE`
 */
export function readFdInfo(pid: number | 'self', fd: number): DmaBufInfo | undefined {
  const process = pid === 'self' ? 0 : checkInteger(pid, 'pid', 1, 2 ** 31 - 1);
  const strings = native.readFdInfo(process, checkFd(fd));
  return strings && toInfo(strings);
}
