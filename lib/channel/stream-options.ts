import { checkFlag, checkInteger } from '../check.js';
import { DmaBufError } from '../errors.js';

/** The settings of a stream. */
export interface FdStreamOptions {
  /**
   * How many descriptors may wait for `takeHandle()` after their bytes were read. If there are more, the stream is destroyed
   * with the error `ERR_DMABUF_TOO_MANY_HANDLES`. Those that `receive()` returns do not count. Default: 1024.
   */
  maxHandles?: number | undefined;
  /** Whether dma-bufs and sync_files arrive as objects; otherwise every descriptor is a number. Default: true. */
  recognise?: boolean | undefined;
  /** In bytes, for each direction, as in every `Duplex` of Node.js. Default: that of Node.js. */
  highWaterMark?: number | undefined;
}

/** The names of the options. */
export const streamOptions: readonly string[] = ['maxHandles', 'recognise', 'highWaterMark'];

const mostHandles = 2 ** 31 - 1;

/** Checks options that have been read. */
export function checkStreamOptions(options: FdStreamOptions): FdStreamOptions {
  const { maxHandles, recognise, highWaterMark } = options;
  if (maxHandles !== undefined) checkInteger(maxHandles, 'maxHandles', 0, mostHandles);
  if (highWaterMark !== undefined) checkInteger(highWaterMark, 'highWaterMark', 0, mostHandles);
  if (recognise !== undefined) checkFlag(recognise, 'recognise');
  return { maxHandles, recognise, highWaterMark };
}

/** The error of `send()` after `end()`. */
export function endedError(): DmaBufError {
  return new DmaBufError('EPIPE: end() was called on this FdStream, which sends nothing more', {
    code: 'EPIPE',
  });
}

/** The error of `receive()` on a stream that is being read as a `Duplex`. */
export function busyError(): DmaBufError {
  return new DmaBufError('EBUSY: this FdStream is being read as a stream', {
    code: 'EBUSY',
    hint: 'Read the whole stream with receive(), or as a stream with takeHandle()',
  });
}

/** The error of a stream whose descriptors are not taken. */
export function tooManyHandles(most: number): DmaBufError {
  return new DmaBufError(
    `ERR_DMABUF_TOO_MANY_HANDLES: more than ${most} descriptors have arrived and were not taken`,
    { code: 'ERR_DMABUF_TOO_MANY_HANDLES', hint: 'Call takeHandle() as they arrive, or raise maxHandles' },
  );
}
