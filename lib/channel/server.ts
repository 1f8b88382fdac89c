import { checkInteger } from '../check.js';
import { askedForAt, placeOfCall } from '../handle.js';
import { type NativeHandle, native } from '../native.js';
import { brand, OpenFile, own } from '../open-file.js';
import { showDetails } from '../present.js';
import { checkWaitOptions, type WaitOptions } from '../wait.js';
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

/** The socket of a server, whose file goes with it. */
class ListeningSocket extends OpenFile {
  // Not the engine's own, which goes through the array's iterator, and that is anybody's.
  constructor(handle: NativeHandle) {
    super(handle, 'DmaBufServer');
  }

  protected override leave(handle: NativeHandle): void {
    native.removeSocket(handle, patienceOfClose);
  }
}

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
    createServer = (handle, path, toChannel) =>
      new DmaBufServer(new ListeningSocket(handle), path, toChannel);
  }

  /** Where it listens, as it was given. */
  readonly path: string;
  readonly #file: OpenFile;
  readonly #toChannel: (handle: NativeHandle) => DmaBufChannel;
  readonly #accepting: SocketLine;

  private constructor(file: OpenFile, path: string, toChannel: (handle: NativeHandle) => DmaBufChannel) {
    this.#file = own(this, file, 'DmaBufServer', 'DmaBufChannel.listen()');
    this.path = path;
    this.#toChannel = toChannel;
    this.#accepting = new SocketLine(file, 1);
  }

  static readonly #of = brand('DmaBufServer', (self) => (#file in self ? self : undefined));

  static #openOf(self: DmaBufServer): DmaBufServer {
    DmaBufServer.#of(self).#file.checkOpen();
    return self;
  }

  /** The file descriptor, lent: do not close it. -1 once closed. */
  get fd(): number {
    return DmaBufServer.#of(this).#file.fd;
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return DmaBufServer.#of(this).#file.closed;
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
    DmaBufServer.#of(this).#file.close();
  }

  /** What the server is, for logs and as JSON. */
  toJSON(): object {
    const { path } = DmaBufServer.#of(this);
    return this.#file.show({ path });
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    DmaBufServer.#of(this).#file.close();
  }

  #acceptNow(): DmaBufChannel | typeof again {
    const handle = native.accept(this.#file.handle);
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
