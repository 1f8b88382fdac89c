import { checkInteger, closedError, illegalConstructor, invalidThis, isObject } from '../check.js';
import { checkWaitOptions, type WaitOptions } from '../fence/wait.js';
import { askedForAt, describe, guard, noSentinel, placeOfCall, type Sentinel, unguard } from '../handle.js';
import { apply } from '../intrinsics.js';
import { type NativeHandle, native } from '../native.js';
import { markUncloneable, showDetails } from '../present.js';
// biome-ignore lint/suspicious/noImportCycles: the type alone
import type { DmaBufChannel } from './channel.js';
import { again, letTurn, SocketLine, spend } from './socket-line.js';
import { bindName, bindPath, patienceOfClose, socketAddress } from './socket-place.js';

/** How a server shall listen. */
export interface ServerOptions {
  /**
   * The permissions of the socket's file, 0 to `0o777`, whatever the umask is: who may write may connect. Default `0o600`,
   * the own user alone. Abstract names have none.
   */
  mode?: number | undefined;
}

/** The names of the options. */
export const serverOptions: readonly string[] = ['mode'];

/** Starts to listen; `toChannel` makes channels of connections. */
export function listenAt(
  path: string,
  { mode = 0o600 }: ServerOptions,
  toChannel: (handle: NativeHandle) => DmaBufChannel,
): DmaBufServer {
  const address = socketAddress(path);
  checkInteger(mode, 'mode', 0, 0o777);
  const serve = (handle: NativeHandle, finish?: () => void): DmaBufServer => {
    native.unclaimed[0] = 0;
    try {
      finish?.();
      return createServer(handle, path, toChannel);
    } catch (error) {
      native.close(handle);
      throw error;
    }
  };
  if (address[0] === 0) return serve(bindName(address, mode, path));
  // From down there, the stack would not reach the caller.
  const site = placeOfCall();
  return bindPath(address, mode, path, (handle, finish) => askedForAt(site, () => serve(handle, finish)));
}

/** What a new channel takes, in messages. */
const costOfChannel = 16;

/** Known to this module alone, so that nobody else constructs. */
const construct = Symbol('DmaBufServer');
let createServer: (
  handle: NativeHandle,
  path: string,
  toChannel: (handle: NativeHandle) => DmaBufChannel,
) => DmaBufServer;

/**
 * A socket that listens for {@link DmaBufChannel}s; {@link DmaBufChannel.listen} makes it. The object owns its
 * descriptor, and the socket's file, until `close()`.
 *
 * @example
 * using server = DmaBufChannel.listen('/run/camera.sock', { mode: 0o660 });
 * for await (const channel of server) serve(channel);
 */
export class DmaBufServer implements Disposable, AsyncIterable<DmaBufChannel> {
  static {
    showDetails(DmaBufServer.prototype, 'DmaBufServer');
    createServer = (handle, path, toChannel) => new DmaBufServer(handle, path, toChannel, construct);
  }

  /** Where it listens, as it was given. */
  readonly path: string;
  #handle: NativeHandle;
  #fd = -1; // until somebody asks
  readonly #toChannel: (handle: NativeHandle) => DmaBufChannel;
  #sentinel: Sentinel;
  readonly #accepting: SocketLine;

  private constructor(
    handle: NativeHandle,
    path: string,
    toChannel: (handle: NativeHandle) => DmaBufChannel,
    token: symbol,
  ) {
    if (token !== construct) throw illegalConstructor('DmaBufServer', 'DmaBufChannel.listen()');
    this.path = path;
    this.#handle = handle;
    this.#toChannel = toChannel;
    this.#accepting = new SocketLine(handle, 1);
    this.#sentinel = guard(handle, 'DmaBufServer');
    markUncloneable?.(this);
  }

  static #of(self: DmaBufServer): DmaBufServer {
    if (!isObject(self) || !(#handle in self)) throw invalidThis('DmaBufServer');
    return self;
  }

  static #openOf(self: DmaBufServer): DmaBufServer {
    if (DmaBufServer.#of(self).#handle < 0) throw closedError('DmaBufServer');
    return self;
  }

  /** The file descriptor, lent: do not close it. -1 once closed. */
  get fd(): number {
    const self = DmaBufServer.#of(this);
    if (self.#handle >= 0 && self.#fd < 0) {
      native.describe(self.#handle);
      self.#fd = native.registers[0] as number;
    }
    return self.#fd;
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return DmaBufServer.#of(this).#handle < 0;
  }

  /**
   * The next connection. Calls are served in order; a pending one keeps the process alive.
   *
   * @throws DmaBufError `EMFILE` (the connection waits until this is called again), `ETIMEDOUT`, `ERR_DMABUF_CLOSED` when
   *   the server is closed meanwhile; or the signal's reason
   */
  async accept(options?: WaitOptions): Promise<DmaBufChannel> {
    const self = DmaBufServer.#openOf(this);
    const limits = checkWaitOptions(options);
    if (self.#accepting.mayTry(limits)) {
      try {
        const channel = self.#acceptNow();
        if (channel !== again) return channel;
      } catch (error) {
        throw await letTurn(error);
      }
    }
    return await self.#accepting.run(() => self.#acceptNow(), limits, 'waiting for a connection');
  }

  /**
   * Connections until the server is closed. Leaving the loop leaves it open.
   *
   * @throws DmaBufError what {@link DmaBufServer.accept} rejects with
   */
  [Symbol.asyncIterator](): AsyncGenerator<DmaBufChannel, void, undefined> {
    return connectionsOf(DmaBufServer.#openOf(this));
  }

  /**
   * Stops listening, removes the socket's file and rejects pending calls. Channels that were accepted stay open. Does
   * nothing the second time.
   */
  close(): void {
    DmaBufServer.#of(this).#accepting.close('DmaBufServer');
    const handle = this.#handle; // read now: whoever was told may have closed it
    if (handle < 0) return;
    native.removeSocket(handle, patienceOfClose);
    native.close(handle);
    this.#handle = -1;
    this.#sentinel.record.handle = -1;
    this.#fd = -1;
    unguard(this.#sentinel, handle);
    this.#sentinel = noSentinel;
  }

  /** What the server is, for logs and as JSON. */
  toJSON(): object {
    const server = DmaBufServer.#of(this);
    const { path } = server;
    if (server.#handle < 0) return { type: 'DmaBufServer', path, closed: true };
    return { ...describe(server.#handle, 'DmaBufServer'), path, closed: false };
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    apply(DmaBufServer.prototype.close, this, []);
  }

  #acceptNow(): DmaBufChannel | typeof again {
    const handle = native.accept(this.#handle);
    if (handle < 0) return again;
    spend(costOfChannel);
    return this.#toChannel(handle);
  }
}

async function* connectionsOf(server: DmaBufServer): AsyncGenerator<DmaBufChannel, void, undefined> {
  try {
    while (!server.closed) yield await server.accept();
  } catch (error) {
    if (!server.closed) throw error;
  }
}
