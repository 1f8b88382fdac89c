import { DmaBuf } from './dma-buf.js';

/**
 * The same as {@link DmaBuf.importFrom}: copies a dma-buf out of another process.
 *
 * @param pid The process, as numbered in this PID namespace.
 * @param fd Its descriptor's number there.
 */
export function importFrom(pid: number, fd: number): DmaBuf {
  return DmaBuf.importFrom(pid, fd);
}
