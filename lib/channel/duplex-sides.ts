import type { Duplex, DuplexOptions } from 'node:stream';
import { closedError } from '../check.js';
import { OwnPromise } from '../intrinsics.js';
import type { OpenFile } from '../open-file.js';
import { ByteSocket } from './byte-socket.js';
import { closeAll, hold, type Sendable } from './message.js';
import { busyError, type FdStreamOptions, tooManyHandles } from './stream-options.js';

type Callback = (error?: Error | null) => void;

/** What a `Duplex` of Node.js does with a socket, and what goes between its bytes. */
export class DuplexSides {
  readonly socket: ByteSocket;
  readonly #file: OpenFile;
  readonly #maxHandles: number;
  #stream: Duplex | undefined;
  /** What sends, in their turn, the bytes of a `send()` that came behind those of `write()`. */
  readonly #behind = new Map<unknown, (callback: Callback) => void>();
  #isReading = false;
  /** Whether nothing is read until what has been read is taken. */
  #isDeferred = false;
  #hasEnded = false;

  constructor(file: OpenFile, { maxHandles = 1024, recognise = true }: FdStreamOptions) {
    this.#file = file;
    this.#maxHandles = maxHandles;
    this.socket = new ByteSocket(file, recognise, {
      // Whoever is told of the error shall not be told that the stream is closed.
      onCut: () => queueMicrotask(() => this.#stream?.destroy()),
      onEnd: () => this.#end(),
    });
  }

  /** For the constructor of the `Duplex`. */
  options({ highWaterMark }: FdStreamOptions): DuplexOptions {
    return {
      ...(highWaterMark === undefined ? {} : { highWaterMark }),
      read: () => this.#read(),
      write: (chunk, _encoding, callback) => this.#write(chunk, callback),
      final: (callback) => settle(() => this.socket.end(), callback),
      destroy: (error, callback) => this.#destroy(error, callback),
    };
  }

  /** The `Duplex` that was constructed. */
  attach(stream: Duplex): void {
    this.#stream = stream;
  }

  /** Whether everything was received. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  #read(): void {
    if (this.#isReading) return;
    const stream = this.#stream as Duplex;
    // Nobody can have taken descriptors whose bytes are still here: without end, Node.js would read ahead of him.
    this.#isDeferred = this.socket.unclaimed > 0 && stream.readableLength > 0;
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

  /** Something was taken out of the `Duplex`: reads on, when whoever took it has had the time to take its descriptors. */
  readOn(): void {
    const stream = this.#stream as Duplex;
    if (!this.#isDeferred || stream.readableLength > 0) return;
    this.#isDeferred = false;
    process.nextTick(() => {
      if (!stream.destroyed) this.#read();
    });
  }

  #deliver(bytes: Buffer | undefined): void {
    const stream = this.#stream as Duplex;
    if (stream.destroyed) return;
    this.#hasEnded = bytes === undefined;
    stream.push(bytes ?? null);
  }

  /** Throws where the `Duplex` has read, or is about to: what comes would not be the next bytes. */
  checkUnread(): void {
    if (this.#isReading || (this.#stream as Duplex).readableLength > 0) throw busyError();
  }

  /** `receive()` has seen the end, and so shall the `Duplex`. */
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

  /** Sends in turn: behind what was written before. */
  send(bytes: Uint8Array, items: readonly Sendable[]): Promise<void> {
    const stream = this.#stream as Duplex;
    if (stream.writableLength === 0) return this.socket.send(bytes, items);
    const copy = Buffer.from(bytes);
    const held = hold(items, this.#file.handle);
    return new OwnPromise<void>((resolve, reject) => {
      // Whoever called send() is told of its failure, and nobody else.
      this.#behind.set(copy, (callback) => {
        this.socket
          .sendLater(copy, held)
          .then(resolve, reject)
          .then(() => callback());
      });
      // Called also where it never comes to that.
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

/** Calls back when `act` is done, at once where it returns nothing. */
function settle(act: () => Promise<void> | undefined, callback: Callback): void {
  try {
    const done = act();
    if (done === undefined) callback();
    else done.then(() => callback(), callback);
  } catch (error) {
    callback(error as Error);
  }
}
