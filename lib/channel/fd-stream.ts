import { Duplex } from 'node:stream';
import { checkFd, checkView, outOfRange, readOptions } from '../check.js';
import { callSite, DmaBufError } from '../errors.js';
import { OwnPromise, rejected, resolved } from '../intrinsics.js';
import { native, type Slot } from '../native.js';
import { brand, OpenFile, own } from '../open-file.js';
import { showDetails } from '../present.js';
import { checkWaitOptions, type WaitOptions } from '../wait.js';
import { Accepting, connectionsOf } from './accepting.js';
import { type ConnectOptions, connectOptions, connectTo } from './connecting.js';
import { DuplexSides } from './duplex-sides.js';
import { makePair, takeOver } from './ends.js';
import { listenAt, type ServerOptions, serverOptions } from './listening.js';
import { type ChannelMessage, readSendables, type Sendable } from './message.js';
import { type PeerCredentials, peerOf } from './peer.js';
import { sendTraced, sendTracing } from './send-trace.js';
import { checkStreamOptions, endedError, type FdStreamOptions, streamOptions } from './stream-options.js';

const allConnectOptions: readonly string[] = [...streamOptions, ...connectOptions];
const listenOptions: readonly string[] = [...streamOptions, ...serverOptions];

/** Makes the stream of a socket that the addon has just yielded. */
let makeStream: (slot: Slot, options: FdStreamOptions, place?: number) => FdStream;

/**
 * A Unix stream socket (SOCK_STREAM of unix(7)) whose bytes may carry descriptors, as Wayland, D-Bus, X11, PipeWire,
 * GStreamer and systemd use it.
 *
 * It is a `Duplex` of Node.js, whose descriptors {@link FdStream.takeHandle} returns. It also has {@link FdStream.send} and
 * {@link FdStream.receive}, for protocols that need to know which bytes carry which descriptors. The object owns its
 * descriptor, like a {@link DmaBuf}: when the stream is destroyed, it closes the descriptor, and those that were not taken.
 *
 * @example
 * const [here, there] = FdStream.pair();
 * await here.send('a frame', [buffer]);
 * const { data, handles } = await there.receive();
 */
export class FdStream extends Duplex implements Disposable {
  static {
    showDetails(FdStream.prototype, 'FdStream');
  }

  readonly #file: OpenFile;
  readonly #sides: DuplexSides;
  readonly #peer: PeerCredentials;

  static {
    makeStream = (slot, options, place) => {
      const peer = peerOf(slot);
      return new FdStream(new OpenFile(slot, 'FdStream', place), peer, options);
    };
  }

  private constructor(file: OpenFile, peer: PeerCredentials, options: FdStreamOptions = {}) {
    const sides = new DuplexSides(file, options);
    super(sides.options(options));
    this.#file = own(this, file, 'FdStream', 'FdStream.pair(), connect(), listen() or adopt()');
    this.#sides = sides;
    this.#peer = peer;
    sides.attach(this);
  }

  /**
   * Two ends of a new connection (socketpair(2)): keep one, give the other to a child process or a worker.
   */
  static pair(options?: FdStreamOptions): [FdStream, FdStream] {
    const wanted = checkStreamOptions(readOptions(options, streamOptions));
    return makePair(native.createStreamPair, (slot, place) => makeStream(slot, wanted, place));
  }

  /**
   * Takes over the descriptor of a connected stream socket, for example one inherited from the parent process, and marks
   * it close-on-exec. Its file status flags stay as they are. When this throws, the descriptor is still yours.
   *
   * @throws DmaBufError `EPROTOTYPE` (another kind of socket), `ENOTSOCK`, `ENOTCONN`, `EBADF`
   */
  static adopt(fd: number, options?: FdStreamOptions): FdStream {
    checkFd(fd);
    const wanted = checkStreamOptions(readOptions(options, streamOptions));
    return takeOver(
      fd,
      native.adoptStream,
      (slot) => makeStream(slot, wanted),
      (stream) => stream.release(),
    );
  }

  /**
   * Connects to an {@link FdStreamServer}, or to any other program that listens there. While the server's queue is full, it
   * tries again every 10 ms, and with `retry` also while there is no server yet.
   *
   * @param path A socket's path of at most 107 bytes, or an abstract name: `@` or NUL and up to 107 bytes.
   * @throws DmaBufError `ENOENT`, `ECONNREFUSED` (no server listens), `EACCES`, `EPROTOTYPE` (another kind of socket),
   *   `ETIMEDOUT`, `EBUSY` (too many paths lead to file systems that do not answer); or the signal's reason
   */
  static async connect(path: string, options?: FdStreamOptions & ConnectOptions): Promise<FdStream> {
    const { maxHandles, recognise, highWaterMark, ...rest } = readOptions(options, allConnectOptions);
    const wanted = checkStreamOptions({ maxHandles, recognise, highWaterMark });
    const site = callSite(FdStream.connect);
    return await connectTo({ path, isStream: true }, rest, site, (slot) => makeStream(slot, wanted));
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
  static listen(path: string, options?: ServerOptions & FdStreamOptions): FdStreamServer {
    const { maxHandles, recognise, highWaterMark, ...rest } = readOptions(options, listenOptions);
    const wanted = checkStreamOptions({ maxHandles, recognise, highWaterMark });
    return listenAt(path, 'FdStreamServer', rest, (file) => createServer(file, path, wanted));
  }

  static readonly #of = brand('FdStream', (self) => (#file in self ? self : undefined));

  /** The file descriptor, lent: do not close it, and do not read from it. -1 once the stream is destroyed. */
  get fd(): number {
    return FdStream.#of(this).#file.fd;
  }

  /**
   * The process that made the connection at the other end, by `connect()`, `listen()` or `pair()`. It stays the same
   * when the descriptor is passed on.
   */
  get peer(): PeerCredentials {
    return { ...FdStream.#of(this).#peer };
  }

  /**
   * Sends bytes, and descriptors with the first of them. The promise resolves when the kernel has taken all bytes; while
   * the socket is full because the peer is slow, it waits. Bytes keep the order of the calls, including those of `write()`.
   * If the promise rejects, no `'error'` is emitted. If only a part of the bytes was sent, the stream is destroyed, unless
   * the peer is gone.
   *
   * @param data At least one byte if there are handles: descriptors cannot be sent without a byte. A string is sent as
   *   UTF-8.
   * @param handles At most 253. The peer gets duplicates, so you may close yours at any time.
   * @throws DmaBufError `EPIPE` (the peer is gone, or this end was ended), `EBADF` (a number that is not open),
   *   `ETOOMANYREFS` (too many descriptors of this user are in bytes that were not received), `EMFILE`, `ERR_DMABUF_CLOSED`
   */
  send(data: ArrayBufferView | string, handles: readonly Sendable[] = []): Promise<void> {
    try {
      const self = FdStream.#of(this);
      self.#file.checkOpen();
      // The caller's own code (getters, proxies) runs first: it may close the stream, and change what is read later.
      const items = readSendables(handles);
      const bytes = typeof data === 'string' ? Buffer.from(data) : checkView(data, 'data');
      if (bytes.length === 0 && items.length > 0) {
        throw outOfRange('data', 'at least one byte, with which the handles go', 'none');
      }
      if (self.writableEnded) throw endedError();
      const send = (): Promise<void> => self.#sides.send(bytes, items);
      return sendTracing.hasSubscribers ? sendTraced(self.#peer, bytes.length, items, send) : send();
    } catch (error) {
      return rejected(error);
    }
  }

  /**
   * Receives the next bytes, as many as are there and at most 64 KiB, and the descriptors that came with them, never those of
   * two calls of `send()` or sendmsg(2). Returns `undefined` when the peer has ended and everything that it sent was
   * received. Calls are served in order; a pending one keeps the process alive.
   *
   * @throws DmaBufError `EBUSY` (the stream is being read as a `Duplex`), `EMFILE` (this process does not have
   *   enough free descriptors for those that wait: nothing was received, so close some and try again),
   *   `ERR_DMABUF_MESSAGE_TRUNCATED` (descriptors were lost: the stream is destroyed), `ERR_DMABUF_PEER_DROPPED` (the peer has sent more descriptors that
   *   cannot be closed than one peer may: nothing more is received from it), `ETIMEDOUT`, `ERR_DMABUF_CLOSED` when the
   *   stream is destroyed meanwhile; or the signal's reason
   */
  receive(options?: WaitOptions): Promise<ChannelMessage | undefined> {
    try {
      const self = FdStream.#of(this);
      const limits = checkWaitOptions(options);
      if (self.#sides.hasEnded) return resolved(undefined);
      self.#file.checkOpen();
      self.#sides.checkUnread();
      return self.#sides.socket.receive(limits);
    } catch (error) {
      return rejected(error);
    }
  }

  /** Reads as every `Readable` of Node.js does. */
  override read(size?: number): ReturnType<Duplex['read']> {
    const self = FdStream.#of(this);
    const bytes = super.read(size);
    // read(0), which Node.js calls, takes nothing and asks for nothing.
    if (size !== 0) self.#sides.readOn(bytes === null);
    return bytes;
  }

  /**
   * Takes the next descriptor, in order, that came with bytes which are read as from any `Duplex`: by `'data'`, `read()`,
   * `for await` or `pipeline()`. It is there at the latest when its bytes are. Returns `undefined` if there is none. You
   * have to close it. When the stream is destroyed, for example by the end of a loop over it, those that were not taken are
   * closed.
   */
  takeHandle(): Sendable | undefined {
    return FdStream.#of(this).#sides.socket.takeHandle();
  }

  /**
   * Gives the descriptor to the caller, who has to close it. The stream is destroyed, and pending calls are rejected.
   *
   * @throws DmaBufError `EBUSY` when bytes or descriptors that have arrived would be lost, or bytes were not sent yet
   */
  release(): number {
    const self = FdStream.#of(this);
    self.#file.checkOpen();
    if (self.readableLength > 0 || self.writableLength > 0 || self.#sides.socket.unclaimed > 0) {
      throw new DmaBufError('EBUSY: bytes or descriptors wait in this FdStream, and would be lost', {
        code: 'EBUSY',
        hint: 'Read them, or wait until they are written, first',
      });
    }
    self.#sides.socket.stopWatching();
    const fd = self.#file.release();
    self.destroy();
    return fd;
  }

  /** The same as `destroy()`. */
  close(): void {
    FdStream.#of(this).destroy();
  }

  /** Describes the stream, for logs and as JSON. */
  toJSON(): object {
    const stream = FdStream.#of(this);
    return stream.#file.show({ peer: { ...stream.#peer }, unclaimed: stream.#sides.socket.unclaimed });
  }

  /** The same as `destroy()`. */
  [Symbol.dispose](): void {
    FdStream.#of(this).destroy();
  }

  /** Destroys the stream, and waits for its `'close'` event. */
  override async [Symbol.asyncDispose](): Promise<void> {
    const self = FdStream.#of(this);
    self.destroy();
    if (!self.closed) await new OwnPromise<void>((resolve) => void self.once('close', resolve));
  }
}

let createServer: (file: OpenFile, address: string, options: FdStreamOptions) => FdStreamServer;

/**
 * A socket that listens for {@link FdStream}s; {@link FdStream.listen} makes it. The object owns its descriptor, and the
 * socket's file, until `close()`.
 *
 * @example
 * using server = FdStream.listen('/run/display.sock');
 * for await (const stream of server) serve(stream);
 */
export class FdStreamServer implements Disposable, AsyncIterable<FdStream> {
  static {
    showDetails(FdStreamServer.prototype, 'FdStreamServer');
    createServer = (file, address, options) => new FdStreamServer(file, address, options);
  }

  /** The path at which it listens, or `@` and an abstract name; for a server of `listen()`, as the caller gave it. */
  readonly address: string;
  readonly #file: OpenFile;
  readonly #accepting: Accepting<FdStream>;

  private constructor(file: OpenFile, address: string, options: FdStreamOptions) {
    this.#file = own(this, file, 'FdStreamServer', 'FdStream.listen() or FdStreamServer.adopt()');
    this.address = address;
    this.#accepting = new Accepting(file, (slot) => makeStream(slot, options));
  }

  /**
   * Takes over the descriptor of a listening stream socket, such as systemd's first one, 3 (sd_listen_fds(3)), and marks it
   * close-on-exec. The socket's file stays when the server is closed, and its file status flags stay as they are. When this
   * throws, the descriptor is still yours.
   *
   * If other processes accept from the same socket, it must be non-blocking (`NonBlocking=true` of systemd): another process
   * may accept a connection first, and accept4(2) then waits.
   *
   * @throws DmaBufError `EPROTOTYPE` (another kind of socket), `ENOTSOCK`, `EINVAL` (it does not listen), `EBADF`
   */
  static adopt(fd: number, options?: FdStreamOptions): FdStreamServer {
    checkFd(fd);
    const wanted = checkStreamOptions(readOptions(options, streamOptions));
    const make = (slot: Slot): FdStreamServer => {
      const address = native.addressOfServer(slot).replace('\0', '@');
      return createServer(new OpenFile(slot, 'FdStreamServer'), address, wanted);
    };
    return takeOver(fd, native.adoptStreamServer, make, (server) => server.#file.release());
  }

  static readonly #of = brand('FdStreamServer', (self) => (#file in self ? self : undefined));

  /** The file descriptor, lent: do not close it. -1 once closed. */
  get fd(): number {
    return FdStreamServer.#of(this).#file.fd;
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return FdStreamServer.#of(this).#file.closed;
  }

  /**
   * The next connection. Calls are served in order; a pending one keeps the process alive.
   *
   * @throws DmaBufError `EMFILE` (the connection waits until this is called again), `ETIMEDOUT`, `ERR_DMABUF_CLOSED` when
   *   the server is closed meanwhile; or the signal's reason
   */
  async accept(options?: WaitOptions): Promise<FdStream> {
    const server = FdStreamServer.#of(this);
    server.#file.checkOpen();
    return await server.#accepting.accept(checkWaitOptions(options));
  }

  /**
   * Connections until the server is closed. Leaving the loop leaves it open.
   *
   * @throws DmaBufError what {@link FdStreamServer.accept} rejects with
   */
  [Symbol.asyncIterator](): AsyncGenerator<FdStream, void, undefined> {
    FdStreamServer.#of(this).#file.checkOpen();
    return connectionsOf(this);
  }

  /**
   * Stops listening, removes the socket's file and rejects pending calls. Streams that were accepted stay open. A second
   * call does nothing.
   */
  close(): void {
    FdStreamServer.#of(this).#file.close();
  }

  /** What the server is, for logs and as JSON. */
  toJSON(): object {
    const { address } = FdStreamServer.#of(this);
    return this.#file.show({ address });
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    FdStreamServer.#of(this).#file.close();
  }
}
