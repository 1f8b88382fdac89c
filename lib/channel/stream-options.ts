import { checkFlag, checkInteger } from '../check.js';
import { DmaBufError } from '../errors.js';

/** The settings of a stream. */
export interface FdStreamOptions {
  /**
   * How many descriptors nobody may have taken by `takeHandle()` while their bytes were read; with one more, the stream is
   * destroyed with the error `ERR_DMABUF_TOO_MANY_HANDLES`. What `receive()` returns does not count. Default: 1024.
   */
  maxHandles?: number | undefined;
  /** Whether dma-bufs and sync_files arrive as objects; else every descriptor is a number. Default: true. */
  recognise?: boolean | undefined;
  /** Bytes, in each direction, as in every `Duplex` of Node.js. Default: that of Node.js. */
  highWaterMark?: number | undefined;
}

/** The names of the options. */
export const streamOptions: readonly string[] = ['maxHandles', 'recognise', 'highWaterMark'];

const mostHandles = 2 ** 31 - 1;

/** The options have been read. */
export function checkStreamOptions(options: FdStreamOptions): FdStreamOptions {
  const { maxHandles, recognise, highWaterMark } = options;
  if (maxHandles !== undefined) checkInteger(maxHandles, 'maxHandles', 0, mostHandles);
  if (highWaterMark !== undefined) checkInteger(highWaterMark, 'highWaterMark', 0, mostHandles);
  if (recognise !== undefined) checkFlag(recognise, 'recognise');
  return { maxHandles, recognise, highWaterMark };
}

/** `send()` after `end()`. */
export function endedError(): DmaBufError {
  return new DmaBufError('EPIPE: end() was called on this FdStream, which sends no more', { code: 'EPIPE' });
}

/** `receive()` of what is being read. */
export function busyError(): DmaBufError {
  return new DmaBufError('EBUSY: this FdStream is being read as a stream', {
    code: 'EBUSY',
    hint: 'Read all of it by receive(), or as a stream with takeHandle()',
  });
}

/** Nobody takes what arrives. */
export function tooManyHandles(most: number): DmaBufError {
  return new DmaBufError(
    `ERR_DMABUF_TOO_MANY_HANDLES: more than ${most} descriptors have arrived that nobody took`,
    { code: 'ERR_DMABUF_TOO_MANY_HANDLES', hint: 'Call takeHandle() as they come, or raise maxHandles' },
  );
}
