import type { Readable, Writable } from 'node:stream';

/** Above this, a sink that does not keep up makes the guest wait. */
const SINK_LIMIT = 16 * 1024 * 1024;

/** What the guest's standard output or standard error has yet to hand over. */
export interface Forwarded {
  /** Resolves when everything up to the end mark has been read. */
  ended: Promise<void>;
  /** Resolves when the sink has taken everything that was read. */
  flushed: () => Promise<void>;
}

/**
 * Passes what the guest writes on to a sink. The guest's write returns before QEMU has taken the bytes out of the queue, and
 * QEMU serves each port by itself, so a message on another port does not tell that they have arrived: the end mark does,
 * which the guest writes last. It is not passed on.
 */
export function forward(from: Readable, to: Writable, mark: Buffer, fail: (error: Error) => void): Forwarded {
  let broken = false;
  const onError = (error: Error): void => {
    broken = true;
    from.resume();
    fail(error);
  };
  to.on('error', onError);
  const pass = (chunk: Buffer): void => {
    if (broken || chunk.length === 0) return;
    if (to.write(chunk) || to.writableLength < SINK_LIMIT) return;
    from.pause();
    to.once('drain', () => from.resume());
  };
  let kept: Buffer = Buffer.alloc(0);
  const ended = new Promise<void>((resolve) => {
    from.on('data', (chunk: Buffer) => {
      const bytes = kept.length === 0 ? chunk : Buffer.concat([kept, chunk]);
      const length = begunMark(bytes, mark);
      kept = bytes.subarray(bytes.length - length);
      pass(bytes.subarray(0, bytes.length - length));
      if (length === mark.length) resolve();
    });
  });
  // Of a guest that has crashed, the mark is missing.
  from.on('end', () => {
    if (kept.length < mark.length) pass(kept);
  });
  const flushed = (): Promise<void> =>
    new Promise((resolve) => {
      const done = (): void => {
        to.off('error', onError);
        resolve();
      };
      if (broken || to.destroyed) done();
      else to.write('', done);
    });
  return { ended, flushed };
}

/** How many of the last bytes are the mark, or its beginning. */
export function begunMark(bytes: Buffer, mark: Buffer): number {
  for (let length = Math.min(mark.length, bytes.length); length > 0; length--) {
    if (bytes.subarray(bytes.length - length).equals(mark.subarray(0, length))) return length;
  }
  return 0;
}
