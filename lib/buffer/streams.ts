import { constants } from 'node:os';
import { Readable, Writable } from 'node:stream';
import { checkInteger, checkSignal, outOfRange, readOptions } from '../check.js';
import { DmaBufError } from '../errors.js';
import { min } from '../intrinsics.js';
import { native, type Slot } from '../native.js';
import type { OpenBuffer } from './open-buffer.js';

/** Which bytes of a buffer a stream reads or writes, and how. */
export interface BufferStreamOptions {
  /** Where to start in the buffer, in bytes. Default 0. */
  position?: number | undefined;
  /** Bytes. Default: up to the end of the buffer. */
  length?: number | undefined;
  /** Bytes of a chunk, and what the stream keeps at most, as for any stream of Node.js. Default 65 536. */
  highWaterMark?: number | undefined;
  /** When it aborts, the stream is destroyed with an AbortError. */
  signal?: AbortSignal | undefined;
}

const streamOptions: readonly string[] = ['position', 'length', 'highWaterMark', 'signal'];

/** What a stream does with a buffer that it owns. */
interface Streamed {
  read(target: Uint8Array, position: number): number;
  write(source: Uint8Array, position: number): number;
  ready(access: 'read' | 'write'): Promise<void>;
  close(): void;
}

/** The options, checked. */
interface StreamRange {
  position: number;
  end: number;
  highWaterMark: number;
  signal: AbortSignal | undefined;
}

/** Finds every fault of the options, for a buffer of so many bytes. */
function checkStreamOptions(size: number, options: BufferStreamOptions | undefined): StreamRange {
  const {
    position = 0,
    length,
    highWaterMark = 65_536,
    signal,
  } = readOptions(options, streamOptions) as BufferStreamOptions;
  checkInteger(position, 'position', 0, size);
  const bytes = length === undefined ? size - position : checkInteger(length, 'length', 0, size - position);
  checkInteger(highWaterMark, 'highWaterMark', 1, 2 ** 30);
  return { position, end: position + bytes, highWaterMark, signal: checkSignal(signal) };
}

const isBusy = (error: unknown): boolean =>
  error instanceof DmaBufError && error.errno === -constants.errno.EAGAIN && error.syscall === 'poll';

/** Tries to copy; where devices use the buffer, waits until they are done, and tries again. */
async function copyWhenReady(buffer: Streamed, access: 'read' | 'write', copy: () => void): Promise<void> {
  for (;;) {
    try {
      copy();
      return;
    } catch (error) {
      if (!isBusy(error)) throw error;
    }
    await buffer.ready(access);
  }
}

/** A stream of a buffer's bytes; it owns `buffer`, and closes it at its end. */
function readFrom(buffer: Streamed, { position, end, highWaterMark, signal }: StreamRange): Readable {
  let at = position;
  return new Readable({
    highWaterMark,
    ...(signal && { signal }),
    read(wanted) {
      const chunk = Buffer.allocUnsafeSlow(min(wanted, highWaterMark, end - at));
      if (chunk.length === 0) {
        this.push(null);
        return;
      }
      copyWhenReady(buffer, 'read', () => {
        buffer.read(chunk, at);
      }).then(
        () => {
          at += chunk.length;
          this.push(chunk);
        },
        (error: Error) => this.destroy(error),
      );
    },
    destroy(error, done) {
      buffer.close();
      done(error);
    },
  });
}

/** A stream into a buffer; it owns `buffer`, and closes it at its end. */
function writeTo(buffer: Streamed, { position, end, highWaterMark, signal }: StreamRange): Writable {
  let at = position;
  return new Writable({
    highWaterMark,
    ...(signal && { signal }),
    write(chunk: Buffer, _encoding, done) {
      if (chunk.length > end - at) {
        done(outOfRange('stream', `of at most ${end - position} bytes`, at - position + chunk.length));
        return;
      }
      copyWhenReady(buffer, 'write', () => {
        buffer.write(chunk, at);
      }).then(() => {
        at += chunk.length;
        done();
      }, done);
    },
    destroy(error, done) {
      buffer.close();
      done(error);
    },
  });
}

/** Makes the object of a slot that the addon has just yielded. */
type Create = (slot: Slot, source?: string) => Streamed;

/** Makes a stream of a buffer behind a descriptor of its own, which is closed where that fails. */
function open<Stream>(
  buffer: OpenBuffer,
  options: BufferStreamOptions | undefined,
  create: Create,
  make: (buffer: Streamed, range: StreamRange) => Stream,
): Stream {
  const range = checkStreamOptions(buffer.size, options);
  const own = create(native.duplicate(buffer.slot), buffer.source);
  try {
    return make(own, range);
  } catch (error) {
    own.close();
    throw error;
  }
}

/** A stream of an open buffer's bytes. */
export function readStreamOf(
  buffer: OpenBuffer,
  options: BufferStreamOptions | undefined,
  create: Create,
): Readable {
  return open(buffer, options, create, readFrom);
}

/** A stream into an open buffer. */
export function writeStreamOf(
  buffer: OpenBuffer,
  options: BufferStreamOptions | undefined,
  create: Create,
): Writable {
  return open(buffer, options, create, writeTo);
}
