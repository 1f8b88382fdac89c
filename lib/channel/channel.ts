import { constants } from 'node:os';
import { createDmaBuf, type DmaBuf, handleOfDmaBuf, isDmaBuf } from '../buffer/dma-buf.js';
import {
  checkFd,
  checkInteger,
  checkView,
  closedError,
  invalidType,
  isObject,
  outOfRange,
  readOptions,
} from '../check.js';
import { aboutDescriptor, atCallSite, callSite, DmaBufError } from '../errors.js';
import { createSyncFile, handleOfSyncFile, isSyncFile, type SyncFile } from '../fence/sync-file.js';
import { askedForAt } from '../handle.js';
import { isArray, isInteger, itemsOf, rejected, resolved } from '../intrinsics.js';
import { type NativeHandle, native } from '../native.js';
import { brand, OpenFile, own } from '../open-file.js';
import { showDetails } from '../present.js';
import { checkWaitOptions, PendingWaits, type WaitOptions, waitOptions } from '../wait.js';
import { Connecting } from './connecting.js';
// biome-ignore lint/suspicious/noImportCycles: listen() of a channel gives a server, and a server gives channels
import { type DmaBufServer, listenAt, type ServerOptions, serverOptions } from './server.js';
import { again, later, SocketLine, spend } from './socket-line.js';
import { socketAddress } from './socket-place.js';

/** What can be sent: a dma-buf, a sync_file, or any open file by the number of its descriptor. */
export type Sendable = DmaBuf | SyncFile | number;

/** A message as it arrived. */
export interface ChannelMessage {
  /** Its bytes, in memory of their own; none where only handles were sent. */
  data: Uint8Array;
  /**
   * In the order in which they were sent, each recognised for what it is: a dma-buf, a sync_file, or any other file's
   * descriptor. All are yours to close.
   */
  handles: Sendable[];
}

/** Who is at the other end of a connection (SO_PEERCRED of unix(7)). */
export interface PeerCredentials {
  /** Process id; 0 for a process outside this PID namespace. */
  pid: number;
  /** Effective user id. */
  uid: number;
  /** Effective group id. */
  gid: number;
}

/** How a channel shall be. */
export interface ChannelOptions {
  /**
   * The largest message in bytes, both ways; at most 4 MiB. Default: what the socket has, usually 212 960. Above twice
   * `net.core.wmem_max` it takes CAP_NET_ADMIN: `EPERM` without it.
   */
  maxMessageSize?: number | undefined;
}

const channelOptions: readonly string[] = ['maxMessageSize'];

const connectOptions: readonly string[] = [...channelOptions, ...waitOptions];
const listenOptions: readonly string[] = [...channelOptions, ...serverOptions];

const sent: Promise<void> = resolved(undefined);

/** SCM_MAX_FD: most handles in a message. */
const maxHandles = 253;
/** Above this the kernel refuses whatever the limit is. */
const maxMessageBytes = 4 << 20;

const { EMSGSIZE, EPERM } = constants.errno;

// Taken when this is loaded: see intrinsics.ts.
const Bytes = Uint8Array;
const Numbers = Float64Array;

/** Makes the channel of a socket that the addon has just yielded. */
let makeChannel: (handle: NativeHandle, options: ChannelOptions, place?: number) => DmaBufChannel;

/** The same; closes the socket when that fails. */
function createChannel(handle: NativeHandle, options: ChannelOptions, place?: number): DmaBufChannel {
  try {
    return makeChannel(handle, options, place);
  } catch (error) {
    native.close(handle);
    throw error;
  }
}

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
  readonly #peer: PeerCredentials;
  readonly #maxMessageSize: number;
  readonly #sending: SocketLine;
  readonly #receiving: SocketLine;

  static {
    makeChannel = (handle, { maxMessageSize }, place) => {
      const limit = limitMessages(handle, maxMessageSize);
      const peer = peerOf(handle);
      return new DmaBufChannel(new OpenFile(handle, 'DmaBufChannel', place), peer, limit);
    };
  }

  private constructor(file: OpenFile, peer: PeerCredentials, maxMessageSize: number) {
    this.#file = own(this, file, 'DmaBufChannel', 'DmaBufChannel.pair(), connect(), listen() or adopt()');
    this.#peer = peer;
    this.#maxMessageSize = maxMessageSize;
    this.#sending = new SocketLine(file, 2);
    this.#receiving = new SocketLine(file, 1);
  }

  /**
   * Two ends of a new connection (socketpair(2)): keep one, give the other to a child process or a worker.
   */
  static pair(options?: ChannelOptions): [DmaBufChannel, DmaBufChannel] {
    const wanted = checkChannelOptions(readOptions(options, channelOptions));
    native.createChannelPair();
    const first = native.registers[0] as NativeHandle;
    const second = native.registers[1] as NativeHandle;
    let one: DmaBufChannel | undefined;
    try {
      one = createChannel(first, wanted);
      return [one, createChannel(second, wanted, 1)];
    } catch (error) {
      if (one === undefined) native.close(second);
      one?.close();
      throw error;
    }
  }

  /**
   * Takes a connected SOCK_SEQPACKET socket's descriptor over, for example one inherited from the parent process, and
   * marks it close-on-exec. When this throws, the descriptor is still yours.
   *
   * @throws DmaBufError `EPROTOTYPE` (another kind of socket), `ENOTSOCK`, `ENOTCONN`, `EBADF`
   */
  static adopt(fd: number, options?: ChannelOptions): DmaBufChannel {
    checkFd(fd);
    const wanted = checkChannelOptions(readOptions(options, channelOptions));
    const handle = aboutDescriptor(fd, () => native.adoptChannel(fd));
    let channel: DmaBufChannel | undefined;
    try {
      channel = makeChannel(handle, wanted);
      native.markCloseOnExec(handle);
      return channel;
    } catch (error) {
      if (channel === undefined) native.release(handle);
      else channel.release();
      native.unclaimed[0] = 0;
      throw error;
    }
  }

  /**
   * Connects to a {@link DmaBufServer}, or to any other program that listens there. While the server's queue is full, it
   * tries again every 10 ms.
   *
   * @param path A socket's path of at most 107 bytes, or an abstract name: `@` or NUL and up to 107 bytes.
   * @throws DmaBufError `ENOENT`, `ECONNREFUSED` (nobody listens), `EACCES`, `EPROTOTYPE` (another kind of socket),
   *   `ETIMEDOUT`, `EBUSY` (too many paths lead to file systems that do not answer); or the signal's reason
   */
  static async connect(path: string, options?: ChannelOptions & WaitOptions): Promise<DmaBufChannel> {
    const address = socketAddress(path);
    const { maxMessageSize, ...rest } = readOptions(options, connectOptions);
    const wanted = checkChannelOptions({ maxMessageSize });
    const limits = checkWaitOptions(rest);
    const site = callSite(DmaBufChannel.connect);
    const connecting = new Connecting(address, path, (handle) =>
      askedForAt(site, () => createChannel(handle, wanted)),
    );
    return await new PendingWaits().run<DmaBufChannel>(
      (done, fail) =>
        connecting.start(done, (error) =>
          fail(error instanceof DmaBufError ? atCallSite(error, site) : error),
        ),
      limits,
      site,
      `connecting to ${path}`,
    );
  }

  /**
   * Listens for connections. A socket file that a dead server left behind is replaced; one that somebody listens on, and
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
    return listenAt(path, rest, (handle) => createChannel(handle, wanted));
  }

  static readonly #of = brand('DmaBufChannel', (self) => (#file in self ? self : undefined));

  static #openOf(self: DmaBufChannel): DmaBufChannel {
    DmaBufChannel.#of(self).#file.checkOpen();
    return self;
  }

  /** The file descriptor, lent: do not close it, and do not read from it. -1 once closed. */
  get fd(): number {
    return DmaBufChannel.#of(this).#file.fd;
  }

  /** Whether the object has given up its descriptor. */
  get closed(): boolean {
    return DmaBufChannel.#of(this).#file.closed;
  }

  /**
   * The process at the other end, as it was when the connection was made: whoever called `connect()`, `listen()` or
   * `pair()`. A descriptor that was passed on since does not change it.
   */
  get peer(): PeerCredentials {
    return { ...DmaBufChannel.#of(this).#peer };
  }

  /** The largest message in bytes that this end sends and receives. */
  get maxMessageSize(): number {
    return DmaBufChannel.#of(this).#maxMessageSize;
  }

  /**
   * Sends a message. The promise resolves when the kernel has taken it; that waits while the peer is slow and the
   * socket is full (back-pressure). Messages keep the order of the calls.
   *
   * @param data At least one byte, unless there are handles. A string is sent as UTF-8.
   * @param handles At most 253, which the peer gets duplicates of: close yours whenever you like.
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
      const self = DmaBufChannel.#openOf(this);
      // What the caller wrote (getters, proxies) is asked first: it may close and change whatever comes after it.
      const limits = checkWaitOptions(options);
      const items = readSendables(handles);
      const bytes = typeof data === 'string' ? Buffer.from(data) : checkView(data, 'data');
      if (bytes.length === 0 && items.length === 0) {
        throw outOfRange('data', 'at least one byte when there are no handles', 'none');
      }
      if (bytes.length > self.#maxMessageSize) throw tooLarge(bytes.length, self.#maxMessageSize);
      if (self.#sending.mayTry(limits)) {
        writeSendables(items);
        if (self.#sendNow(bytes, items.length) !== again) return sent;
      }
      return self.#sendLater(new Uint8Array(bytes), hold(items, self.#file.handle), limits);
    } catch (error) {
      return rejected(error);
    }
  }

  /**
   * The next message; `undefined` when the peer is gone and everything it sent has been received. Calls are served in
   * order; a pending one keeps the process alive. What cannot be received whole is dropped, with its descriptors.
   *
   * @throws DmaBufError `ERR_DMABUF_MESSAGE_TRUNCATED` (the message was larger than `maxMessageSize`, or this process has
   *   no descriptor left for its handles), `ERR_DMABUF_PEER_DROPPED` (the peer has sent more descriptors that cannot be
   *   closed than one peer may: nothing more is received from it), `ETIMEDOUT`, `ERR_DMABUF_CLOSED` when the channel is
   *   closed meanwhile; or the signal's reason
   */
  receive(options?: WaitOptions): Promise<ChannelMessage | undefined> {
    try {
      const self = DmaBufChannel.#openOf(this);
      const limits = checkWaitOptions(options);
      if (self.#receiving.mayTry(limits)) {
        const message = self.#receiveNow();
        if (message !== again && message !== later) return resolved(message);
        if (message === later) self.#receiving.delay();
      }
      return self.#receiving.run(() => self.#receiveNow(), limits, 'waiting for a message');
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
    return messagesOf(DmaBufChannel.#openOf(this));
  }

  /**
   * Gives the descriptor to the caller, who has to close it. The object is closed afterwards, and pending calls are
   * rejected.
   *
   * @throws DmaBufError `EBUSY` while a message is just being thrown away for want of descriptors: the channel stays open
   */
  release(): number {
    return DmaBufChannel.#of(this).#file.release();
  }

  /** Closes this end, and rejects pending calls. The peer can still receive what was sent. Does nothing the second time. */
  close(): void {
    DmaBufChannel.#of(this).#file.close();
  }

  /** What the channel is, for logs and as JSON. */
  toJSON(): object {
    const channel = DmaBufChannel.#of(this);
    return channel.#file.show({ peer: { ...channel.#peer }, maxMessageSize: channel.#maxMessageSize });
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    DmaBufChannel.#of(this).#file.close();
  }

  /** The handles are in the addon's registers. */
  #sendNow(bytes: Uint8Array, count: number): undefined | typeof again {
    if (native.send(this.#file.handle, bytes, count) < 0) return again;
    spend(count, bytes.length);
    return undefined;
  }

  /** Waits its turn, with a copy of the data and of the handles, which are closed when it is over. */
  async #sendLater(data: Uint8Array, held: readonly NativeHandle[], limits: WaitOptions): Promise<void> {
    const attempt = (): undefined | typeof again => {
      for (let index = 0; index < held.length; index++) {
        native.registers[2 * index] = 1;
        native.registers[2 * index + 1] = held[index] as NativeHandle;
      }
      return this.#sendNow(data, held.length);
    };
    try {
      await this.#sending.run<undefined>(attempt, limits, 'sending a message');
    } finally {
      closeAll(held);
    }
  }

  #receiveNow(): ChannelMessage | undefined | typeof again | typeof later {
    const length = native.receive(this.#file.handle, this.#maxMessageSize);
    if (length >= 0) {
      // Memory that nothing has had a hold of: the class was taken when this was loaded.
      const data = new Bytes(length);
      native.takeMessage(data);
      const message = { data, handles: readHandles() };
      // The numbers of other files are the receiver's from here on.
      for (let index = 0; index < message.handles.length; index++) native.unclaimed[index] = 0;
      spend(message.handles.length, length);
      return message;
    }
    if (length === -1) return again;
    if (length === -2) return undefined;
    if (length === -5) return later;
    if (length === -6) throw dropped();
    spend(native.registers[0] as number);
    throw truncated(length === -3, this.#maxMessageSize);
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

/** The options have been read. */
function checkChannelOptions(options: ChannelOptions): ChannelOptions {
  const { maxMessageSize } = options;
  if (maxMessageSize !== undefined) checkInteger(maxMessageSize, 'maxMessageSize', 1, maxMessageBytes);
  return options;
}

/** Who is at the other end of a socket. */
function peerOf(handle: NativeHandle): PeerCredentials {
  native.describePeer(handle);
  const { registers } = native;
  return { pid: registers[0] as number, uid: registers[1] as number, gid: registers[2] as number };
}

/** Sets the largest message, where one is wanted, and returns what it is. */
function limitMessages(handle: NativeHandle, wanted = 0): number {
  const limit = native.limitMessages(handle, wanted);
  if (limit >= wanted) return wanted === 0 ? limit : wanted;
  throw new DmaBufError(`EPERM: this socket sends at most ${limit} bytes at a time, not ${wanted}`, {
    code: 'EPERM',
    errno: -EPERM,
    syscall: 'setsockopt',
    hint: `Raise the limit, as root: sysctl -w net.core.wmem_max=${Math.ceil(wanted / 2) + 16}`,
  });
}

/** The items of a list of handles, each read once. */
function readList(handles: readonly Sendable[], most: number): Sendable[] {
  if (!isArray(handles)) throw invalidType('handles', 'an array', handles);
  const { length } = handles;
  if (length > most) throw outOfRange('handles', `at most ${most}`, length);
  return itemsOf(handles, length);
}

/** The number that a handle stands for; -1 for an object of this copy's. */
function numberOf(item: Sendable): number {
  if (isDmaBuf(item) || isSyncFile(item)) return -1;
  const fd = fdOfCopy(item);
  if (fd >= 0) return fd;
  if (typeof item !== 'number') {
    throw invalidType('handles', 'DmaBufs, SyncFiles or numbers of descriptors', item);
  }
  return checkFd(item, 'handle');
}

/** What shall be sent: objects of this copy's, and numbers. From here on nothing that the caller wrote is run. */
function readSendables(handles: readonly Sendable[]): (DmaBuf | SyncFile | number)[] {
  const items = readList(handles, maxHandles);
  for (let index = 0; index < items.length; index++) {
    const number = numberOf(items[index] as Sendable);
    if (number >= 0) items[index] = number;
  }
  return items;
}

/**
 * Closes whatever messages brought: buffers, sync_files and plain descriptors. It is also the way to close the numbers that
 * {@link createMemfd} and `release()` return, in every thread and without a warning of Node's; what `node:fs` has opened,
 * `node:fs` closes. Closes all of them whatever happens, then throws the first error.
 *
 * A stranger's file may keep whoever closes it waiting (FUSE, NFS, a socket that lingers). Such files are closed by a thread
 * of their own; this waits for it for some milliseconds at most, and not always. Until then the number stays taken.
 *
 * @throws DmaBufError `EBADF` for a number that is not open
 */
export function closeHandles(handles: readonly Sendable[]): void {
  const items = readList(handles, Number.POSITIVE_INFINITY);
  for (let index = 0; index < items.length; index++) numberOf(items[index] as Sendable);
  const numbers = new Numbers(items.length);
  let count = 0;
  let failure: unknown;
  for (let index = 0; index < items.length; index++) {
    const item = items[index] as Sendable;
    if (typeof item === 'number') numbers[count++] = item;
    else {
      try {
        item.close();
      } catch (error) {
        failure ??= error;
      }
    }
  }
  if (count > 0) native.closeNumbers(numbers, count);
  if (failure !== undefined) throw failure;
}

/** The descriptor of an object of another copy of this package (another version, or loaded twice); -1 for anything else. */
function fdOfCopy(item: unknown): number {
  if (!isObject(item)) return -1;
  const { constructor: type, fd } = item as { constructor?: { name?: unknown }; fd?: unknown };
  if (type?.name !== 'DmaBuf' && type?.name !== 'SyncFile') return -1;
  if (typeof fd === 'number' && fd < 0) throw closedError(type.name);
  return typeof fd === 'number' && isInteger(fd) ? fd : -1;
}

/** The addon's handle of an object. */
function handleOf(item: DmaBuf | SyncFile): NativeHandle {
  return isDmaBuf(item) ? handleOfDmaBuf(item) : handleOfSyncFile(item);
}

/** Puts the handles where the addon looks for them. */
function writeSendables(handles: readonly Sendable[]): void {
  const { registers } = native;
  for (let index = 0; index < handles.length; index++) {
    const item = handles[index] as Sendable;
    const isNumber = typeof item === 'number';
    registers[2 * index] = isNumber ? 0 : 1;
    registers[2 * index + 1] = isNumber ? item : handleOf(item);
  }
}

/** Copies of the handles, for a message that has to wait while its sender may close them. */
function hold(handles: readonly Sendable[], channel: NativeHandle): NativeHandle[] {
  const held: NativeHandle[] = [];
  try {
    for (let index = 0; index < handles.length; index++) {
      const item = handles[index] as Sendable;
      const isNumber = typeof item === 'number';
      held[index] = native.hold(channel, !isNumber, isNumber ? item : handleOf(item));
      native.unclaimed[0] = 0;
    }
    return held;
  } catch (error) {
    closeAll(held);
    throw error;
  }
}

function closeAll(held: readonly NativeHandle[]): void {
  for (let index = 0; index < held.length; index++) native.close(held[index] as NativeHandle);
}

/** The handles that the addon has left in its registers. */
function readHandles(): Sendable[] {
  const { registers } = native;
  const handles: Sendable[] = [];
  for (let index = 0, count = registers[0] as number; index < count; index++) {
    const kind = registers[2 + 2 * index];
    const value = registers[3 + 2 * index] as number;
    if (kind === 1) handles[index] = createDmaBuf(value, undefined, index);
    else handles[index] = kind === 2 ? createSyncFile(value, index) : value;
  }
  return handles;
}

function tooLarge(length: number, limit: number): DmaBufError {
  const message = `EMSGSIZE: the message has ${length} bytes, and this channel sends at most ${limit} at a time`;
  const hint = 'Put large data into a dma-buf, or raise maxMessageSize';
  return new DmaBufError(message, { code: 'EMSGSIZE', errno: -EMSGSIZE, syscall: 'sendmsg', hint });
}

function dropped(): DmaBufError {
  return new DmaBufError(
    'ERR_DMABUF_PEER_DROPPED: nothing more is received on this channel, since the peer has sent too many descriptors of ' +
      'files that keep whoever closes them waiting',
    { code: 'ERR_DMABUF_PEER_DROPPED', hint: 'Close the channel' },
  );
}

function truncated(data: boolean, limit: number): DmaBufError {
  const { registers } = native;
  const why = data
    ? `it has ${registers[1]} bytes, and this channel receives at most ${limit} bytes`
    : `only ${registers[0]} of its descriptors could be received: this process has none left, or may not have them`;
  return new DmaBufError(`ERR_DMABUF_MESSAGE_TRUNCATED: a message was dropped, since ${why}`, {
    code: 'ERR_DMABUF_MESSAGE_TRUNCATED',
    syscall: 'recvmsg',
    hint: data ? 'Raise maxMessageSize' : 'Close what is no longer needed, or raise the limit (ulimit -n)',
  });
}
