import { checkFd, checkView, isObject, outOfRange, readOptions } from '../check.js';
import { callSite } from '../errors.js';
import { rejected } from '../intrinsics.js';
import { native, type Slot } from '../native.js';
import { brand, OpenFile, own } from '../open-file.js';
import { showDetails } from '../present.js';
import { checkWaitOptions, type WaitOptions } from '../wait.js';
import { Accepting, connectionsOf } from './accepting.js';
import { type ConnectOptions, connectOptions, connectTo } from './connecting.js';
import { makePair, takeOver } from './ends.js';
import { listenAt, type ServerOptions, serverOptions } from './listening.js';
import { type ChannelMessage, readSendables, type Sendable } from './message.js';
import {
  type ChannelOptions,
  channelOptions,
  checkChannelOptions,
  limitMessages,
  MessageSocket,
} from './message-socket.js';
import { type PeerCredentials, peerOf } from './peer.js';

const allConnectOptions: readonly string[] = [...channelOptions, ...connectOptions];
const listenOptions: readonly string[] = [...channelOptions, ...serverOptions];

/** Whether a value is a DmaBufChannel of this copy's: asks no proxy, unlike instanceof. */
export let isChannel: (value: unknown) => value is DmaBufChannel;

/** Makes the channel of a socket that the addon has just yielded. */
let makeChannel: (slot: Slot, options: ChannelOptions, place?: number) => DmaBufChannel;

/**
 * The end of a connection that carries messages with file descriptors between processes: a Unix SOCK_SEQPACKET socket
 * (unix(7)), which any program can speak.
 *
 * A message is a sequence of bytes and up to 253 handles (SCM_RIGHTS), and arrives whole or not at all, in order. Both ends
 * may send and receive at any time. The object owns its descriptor, like a {@link DmaBuf}.
 *
 * @example
 * const [here, there] = DmaBufChannel.pair();
 * await here.send('frame', [buffer]);
 * const { data, handles } = await there.receive();
 */
export class DmaBufChannel implements Disposable, AsyncIterable<ChannelMessage> {
  static {
    showDetails(DmaBufChannel.prototype, 'DmaBufChannel');
  }

  readonly #file: OpenFile;
  readonly #socket: MessageSocket;

  static {
    isChannel = (value): value is DmaBufChannel => isObject(value) && #socket in value;
    makeChannel = (slot, { maxMessageSize }, place) => {
      const limit = limitMessages(slot, maxMessageSize);
      const peer = peerOf(slot);
      return new DmaBufChannel(new OpenFile(slot, 'DmaBufChannel', place), peer, limit);
    };
  }

  private constructor(file: OpenFile, peer: PeerCredentials, maxMessageSize: number) {
    this.#file = own(this, file, 'DmaBufChannel', 'DmaBufChannel.pair(), connect(), listen() or adopt()');
    this.#socket = new MessageSocket(file, peer, maxMessageSize);
  }

  /**
   * Two ends of a new connection (socketpair(2)): keep one, give the other to a child process or a worker.
   */
  static pair(options?: ChannelOptions): [DmaBufChannel, DmaBufChannel] {
    const wanted = checkChannelOptions(readOptions(options, channelOptions));
    return makePair(native.createChannelPair, (slot, place) => makeChannel(slot, wanted, place));
  }

  /**
   * Takes over the descriptor of a connected SOCK_SEQPACKET socket, for example one inherited from the parent process,
   * and marks it close-on-exec. When this throws, the descriptor is still yours.
   *
   * @throws DmaBufError `EPROTOTYPE` (another kind of socket), `ENOTSOCK`, `ENOTCONN`, `EBADF`
   */
  static adopt(fd: number, options?: ChannelOptions): DmaBufChannel {
    checkFd(fd);
    const wanted = checkChannelOptions(readOptions(options, channelOptions));
    return takeOver(
      fd,
      native.adoptChannel,
      (slot) => makeChannel(slot, wanted),
      (channel) => channel.release(),
    );
  }

  /**
   * Connects to a {@link DmaBufServer}, or to any other program that listens there. While the server's queue is full, it
   * tries again every 10 ms, and with `retry` also while there is no server yet.
   *
   * @param path A socket's path of at most 107 bytes, or an abstract name: `@` or NUL and up to 107 bytes.
   * @throws DmaBufError `ENOENT`, `ECONNREFUSED` (no server listens), `EACCES`, `EPROTOTYPE` (another kind of socket),
   *   `ETIMEDOUT`, `EBUSY` (too many paths lead to file systems that do not answer); or the signal's reason
   */
  static async connect(path: string, options?: ChannelOptions & ConnectOptions): Promise<DmaBufChannel> {
    const { maxMessageSize, ...rest } = readOptions(options, allConnectOptions);
    const wanted = checkChannelOptions({ maxMessageSize });
    const site = callSite(DmaBufChannel.connect);
    return await connectTo({ path, isStream: false }, rest, site, (slot) => makeChannel(slot, wanted));
  }

  /**
   * Listens for connections. A socket file that a dead server left behind is replaced; one on which a server listens, and
   * any other file, is not touched.
   *
   * @param path A socket's path of at most 107 bytes, or an abstract name, which every user of this network namespace may
   *   connect to: `@` or NUL and up to 107 bytes.
   * @throws DmaBufError `EADDRINUSE`, `EACCES`, `ENOENT` (no such folder), `ETIMEDOUT` (a file system on the way does
   *   not answer), `EBUSY` (too many paths lead to such file systems)
   */
  static listen(path: string, options?: ServerOptions & ChannelOptions): DmaBufServer {
    const { maxMessageSize, ...rest } = readOptions(options, listenOptions);
    const wanted = checkChannelOptions({ maxMessageSize });
    return listenAt(path, 'DmaBufServer', rest, (file) => createServer(file, path, wanted));
  }

  static readonly #of = brand('DmaBufChannel', (self) => (#file in self ? self : undefined));

  /** The file descriptor, lent: do not close it, and do not read from it. -1 once closed. */
  get fd(): number {
    return DmaBufChannel.#of(this).#file.fd;
  }

  /** Whether the object has given up its descriptor. */
  get closed(): boolean {
    return DmaBufChannel.#of(this).#file.closed;
  }

  /**
   * The process that made the connection at the other end, by `connect()`, `listen()` or `pair()`. It stays the same
   * when the descriptor is passed on.
   */
  get peer(): PeerCredentials {
    return { ...DmaBufChannel.#of(this).#socket.peer };
  }

  /** The largest message in bytes that this end sends and receives. */
  get maxMessageSize(): number {
    return DmaBufChannel.#of(this).#socket.maxMessageSize;
  }

  /**
   * Sends a message. The promise resolves when the kernel has taken it; while the socket is full because the peer is
   * slow, it waits (back-pressure). Messages keep the order of the calls.
   *
   * @param data At least one byte, unless there are handles. A string is sent as UTF-8.
   * @param handles At most 253. The peer gets duplicates, so you may close yours at any time.
   * @throws DmaBufError `EPIPE` (the peer is gone), `EMSGSIZE`, `EBADF` (a number that is not open), `ETOOMANYREFS` (too
   *   many descriptors are on their way), `EMFILE`, `ETIMEDOUT`, `ERR_DMABUF_CLOSED`; or the signal's reason
   */
  send(
    data: ArrayBufferView | string,
    handles: readonly Sendable[] = [],
    options?: WaitOptions,
  ): Promise<void> {
    // Not an async function, nor is receive(): that alone would cost a tenth of a message.
    try {
      DmaBufChannel.#of(this).#file.checkOpen();
      // What the caller wrote (getters, proxies) is asked first: it may close and change whatever comes after it.
      const limits = checkWaitOptions(options);
      const items = readSendables(handles);
      const bytes = typeof data === 'string' ? Buffer.from(data) : checkView(data, 'data');
      if (bytes.length === 0 && items.length === 0) {
        throw outOfRange('data', 'at least one byte when there are no handles', 'none');
      }
      return this.#socket.send(bytes, items, limits);
    } catch (error) {
      return rejected(error);
    }
  }

  /**
   * The next message; `undefined` when the peer is gone and everything it sent has been received. Calls are served in
   * order; a pending one keeps the process alive. A message that cannot be received whole is dropped, with its
   * descriptors.
   *
   * @throws DmaBufError `ERR_DMABUF_MESSAGE_TRUNCATED` (the message was larger than `maxMessageSize`, or this process has
   *   no descriptor left for its handles), `ERR_DMABUF_PEER_DROPPED` (the peer has sent more descriptors that cannot be
   *   closed than one peer may: nothing more is received from it), `ETIMEDOUT`, `ERR_DMABUF_CLOSED` when the channel is
   *   closed meanwhile; or the signal's reason
   */
  receive(options?: WaitOptions): Promise<ChannelMessage | undefined> {
    try {
      DmaBufChannel.#of(this).#file.checkOpen();
      return this.#socket.receive(checkWaitOptions(options));
    } catch (error) {
      return rejected(error);
    }
  }

  /**
   * Messages until the peer is gone or the channel is closed. Leaving the loop leaves the channel open.
   *
   * @throws DmaBufError what {@link DmaBufChannel.receive} rejects with
   */
  [Symbol.asyncIterator](): AsyncGenerator<ChannelMessage, void, undefined> {
    DmaBufChannel.#of(this).#file.checkOpen();
    return messagesOf(this);
  }

  /**
   * Gives the descriptor to the caller, who has to close it. The object is closed afterwards, and pending calls are
   * rejected.
   *
   * @throws DmaBufError `EBUSY` while a thread drops a message for which there were not enough descriptors: the channel
   *   stays open
   */
  release(): number {
    return DmaBufChannel.#of(this).#file.release();
  }

  /** Closes this end, and rejects pending calls. The peer can still receive what was sent. A second call does nothing. */
  close(): void {
    DmaBufChannel.#of(this).#file.close();
  }

  /** What the channel is, for logs and as JSON. */
  toJSON(): object {
    const channel = DmaBufChannel.#of(this);
    const { maxMessageSize, peer } = channel.#socket;
    return channel.#file.show({ peer: { ...peer }, maxMessageSize });
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    DmaBufChannel.#of(this).#file.close();
  }
}

async function* messagesOf(channel: DmaBufChannel): AsyncGenerator<ChannelMessage, void, undefined> {
  try {
    while (!channel.closed) {
      const message = await channel.receive();
      if (message === undefined) return;
      yield message;
    }
  } catch (error) {
    if (!channel.closed) throw error;
  }
}

let createServer: (file: OpenFile, path: string, options: ChannelOptions) => DmaBufServer;

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
    createServer = (file, path, options) => new DmaBufServer(file, path, options);
  }

  /** The path or name at which it listens, as the caller gave it. */
  readonly path: string;
  readonly #file: OpenFile;
  readonly #accepting: Accepting<DmaBufChannel>;

  private constructor(file: OpenFile, path: string, options: ChannelOptions) {
    this.#file = own(this, file, 'DmaBufServer', 'DmaBufChannel.listen()');
    this.path = path;
    this.#accepting = new Accepting(file, (slot) => makeChannel(slot, options));
  }

  static readonly #of = brand('DmaBufServer', (self) => (#file in self ? self : undefined));

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
    DmaBufServer.#of(this).#file.checkOpen();
    return await this.#accepting.accept(checkWaitOptions(options));
  }

  /**
   * Connections until the server is closed. Leaving the loop leaves it open.
   *
   * @throws DmaBufError what {@link DmaBufServer.accept} rejects with
   */
  [Symbol.asyncIterator](): AsyncGenerator<DmaBufChannel, void, undefined> {
    DmaBufServer.#of(this).#file.checkOpen();
    return connectionsOf(this);
  }

  /**
   * Stops listening, removes the socket's file and rejects pending calls. Channels that were accepted stay open. A second
   * call does nothing.
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
}
