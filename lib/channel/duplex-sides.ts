import type { Duplex, DuplexOptions } from 'node:stream';
import { closedError } from '../check.js';
import { OwnPromise, resolved } from '../intrinsics.js';
import type { OpenFile } from '../open-file.js';
import { ByteSocket } from './byte-socket.js';
import { closeAll, hold, type Sendable } from './message.js';
import { busyError, type FdStreamOptions, tooManyHandles } from './stream-options.js';

type Callback = (error?: Error | null) => void;

/** What a `Duplex` of Node.js does with a socket, and the calls of `send()` and `receive()` in between. */
export class DuplexSides {
  readonly socket: ByteSocket;
  readonly #file: OpenFile;
  readonly #maxHandles: number;
  #stream: Duplex | undefined;
  /** By chunk: what sends the bytes of a `send()` that has to wait for those of an earlier `write()`. */
  readonly #behind = new Map<unknown, (callback: Callback) => void>();
  #isReading = false;
  /** Whether nothing is read until the bytes that were read have been taken. */
  #isDeferred = false;
  #hasEnded = false;

  constructor(file: OpenFile, { maxHandles = 1024, recognise = true }: FdStreamOptions) {
    this.#file = file;
    this.#maxHandles = maxHandles;
    this.socket = new ByteSocket(file, recognise, {
      // Later, so that the call rejects with its own error, and not because the stream is closed.
      onCut: () => queueMicrotask(() => this.#stream?.destroy()),
      onEnd: () => this.#end(),
    });
  }

  /** The options for the constructor of the `Duplex`. */
  options({ highWaterMark }: FdStreamOptions): DuplexOptions {
    return {
      ...(highWaterMark === undefined ? {} : { highWaterMark }),
      read: () => this.#read(),
      write: (chunk, _encoding, callback) => this.#write(chunk, callback),
      final: (callback) => settle(() => this.socket.end(), callback),
      destroy: (error, callback) => this.#destroy(error, callback),
    };
  }

  /** Stores the `Duplex` that was constructed. */
  attach(stream: Duplex): void {
    this.#stream = stream;
  }

  /** Whether everything was received. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** @param isWanted Whether a reader waits for more bytes than are here. */
  #read(isWanted = false): void {
    if (this.#isReading) return;
    const stream = this.#stream as Duplex;
    // The user cannot have taken descriptors whose bytes are still here; Node.js would read ahead without end.
    this.#isDeferred = !isWanted && this.socket.unclaimed > 0 && stream.readableLength > 0;
    if (this.#isDeferred) return;
    if (this.socket.unclaimed > this.#maxHandles) {
      stream.destroy(tooManyHandles(this.#maxHandles));
      return;
    }
    try {
      const bytes = this.socket.read();
      if (!(bytes instanceof OwnPromise)) {
        this.#deliver(bytes);
        return;
      }
      this.#isReading = true;
      bytes.then(
        (data) => {
          this.#isReading = false;
          this.#deliver(data);
        },
        (error) => stream.destroy(error),
      );
    } catch (error) {
      stream.destroy(error as Error);
    }
  }

  /**
   * To be called when bytes were taken out of the `Duplex`, or more are wanted than are there. Continues to read once the
   * reader has had the opportunity to take the descriptors.
   */
  readOn(isWanted: boolean): void {
    const stream = this.#stream as Duplex;
    if (!this.#isDeferred || (!isWanted && stream.readableLength > 0)) return;
    this.#isDeferred = false;
    process.nextTick(() => {
      if (!stream.destroyed) this.#read(isWanted);
    });
  }

  #deliver(bytes: Buffer | undefined): void {
    const stream = this.#stream as Duplex;
    if (stream.destroyed) return;
    this.#hasEnded = bytes === undefined;
    stream.push(bytes ?? null);
  }

  /** Throws if the `Duplex` has read bytes, or is reading: `receive()` would not return the next bytes. */
  checkUnread(): void {
    if (this.#isReading || (this.#stream as Duplex).readableLength > 0) throw busyError();
  }

  /** Makes the `Duplex` see the end that `receive()` has seen. */
  #end(): void {
    this.#hasEnded = true;
    const stream = this.#stream as Duplex;
    stream.push(null);
    stream.read();
  }

  #write(chunk: Buffer, callback: Callback): void {
    const send = this.#behind.get(chunk);
    if (send === undefined) {
      settle(() => this.socket.write(chunk), callback);
    } else {
      this.#behind.delete(chunk);
      send(callback);
    }
  }

  /** Sends in turn: after what was written before. */
  send(bytes: Uint8Array, items: readonly Sendable[]): Promise<void> {
    const stream = this.#stream as Duplex;
    if (bytes.length === 0) return resolved(undefined);
    if (stream.writableLength === 0) return this.socket.send(bytes, items);
    const copy = Buffer.from(bytes);
    const held = hold(items, this.#file.slot);
    return new OwnPromise<void>((resolve, reject) => {
      // Only the caller of send() is told of its failure.
      this.#behind.set(copy, (callback) => {
        this.socket
          .sendLater(copy, held)
          .then(resolve, reject)
          .then(() => callback());
      });
      // Also called if the chunk is never written.
      stream.write(copy, () => {
        if (!this.#behind.delete(copy)) return;
        closeAll(held);
        reject(closedError('FdStream'));
      });
    });
  }

  #destroy(error: Error | null, callback: Callback): void {
    this.socket.unclaimed = 0;
    try {
      this.socket.stopWatching();
      this.#file.close();
      callback(error);
    } catch (failure) {
      callback(error ?? (failure as Error));
    }
  }
}

/** Calls back when `act` is done: immediately if it returns nothing. */
function settle(act: () => Promise<void> | undefined, callback: Callback): void {
  try {
    const done = act();
    if (done === undefined) callback();
    else done.then(() => callback(), callback);
  } catch (error) {
    callback(error as Error);
  }
}
