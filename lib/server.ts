import {
  chmodSync,
  closeSync,
  constants as fileConstants,
  fstatSync,
  lstatSync,
  openSync,
  type Stats,
  unlinkSync,
} from 'node:fs';
import { constants } from 'node:os';
import { basename, dirname, isAbsolute } from 'node:path';
import type { DmaBufChannel } from './channel.js';
import {
  checkInteger,
  closedError,
  illegalConstructor,
  invalidThis,
  invalidType,
  isObject,
  outOfRange,
} from './check.js';
import { createError, DmaBufError, fromNode } from './errors.js';
import { lockFolder } from './folder-lock.js';
import { askedForAt, describe, guard, noSentinel, placeOfCall, type Sentinel, unguard } from './handle.js';
import { apply } from './intrinsics.js';
import { type NativeHandle, native } from './native.js';
import { markUncloneable, showDetails } from './present.js';
import { again, letTurn, SocketLine, spend } from './socket-line.js';
import { checkWaitOptions, type WaitOptions } from './wait.js';

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

/** sun_path less the NUL. */
const maxAddressBytes = 107;

/** A path's bytes, or NUL and an abstract name's. */
export function socketAddress(path: unknown): Uint8Array {
  if (typeof path !== 'string') throw invalidType('path', 'a string', path);
  if (path === '' || path === '@' || path === '\0') throw outOfRange('path', 'a path or a name', path);
  const abstract = path[0] === '@' || path[0] === '\0';
  if (path.includes('\0', 1)) throw outOfRange('path', 'without NUL', path);
  const name = Buffer.from(abstract ? path.slice(1) : path);
  if (name.length > maxAddressBytes) {
    const cure = abstract ? '' : ': use a shorter folder, or a path relative to the working directory';
    throw outOfRange('path', `at most ${maxAddressBytes} bytes (this one has ${name.length})${cure}`, path);
  }
  return abstract ? Buffer.concat([Buffer.alloc(1), name]) : name;
}

/** Says which socket an error of the kernel is about. */
export function atPath(error: unknown, path: string): unknown {
  if (!(error instanceof DmaBufError) || error.errno === undefined) return error;
  return createError(error.errno, error.syscall, path.replace('\0', '@'));
}

const isCode = (error: unknown, code: string): boolean => (error as { code?: string }).code === code;

function inUse(path: string, why: string): DmaBufError {
  return new DmaBufError(`EADDRINUSE: address already in use, bind '${path}'`, {
    hint: why,
    code: 'EADDRINUSE',
    errno: -constants.errno.EADDRINUSE,
    syscall: 'bind',
    path,
  });
}

const folderOnly = 0o10000000 | fileConstants.O_DIRECTORY; // O_PATH
const fileOnly = 0o10000000 | fileConstants.O_NOFOLLOW;

/** A descriptor, and a path to its file that nobody can lead elsewhere. */
interface Opened {
  fd: number;
  path: string;
  stats: Stats;
}

function withOpen<T>(path: string, flags: number, use: (opened: Opened) => T): T {
  const fd = openSync(path, flags);
  try {
    return use({ fd, path: `/proc/self/fd/${fd}`, stats: fstatSync(fd) });
  } finally {
    closeSync(fd);
  }
}

/**
 * A socket's place: its folder is looked up once, and its file within the folder. Whoever may write to a folder above
 * could otherwise lead one step of several to other files than those that were looked at.
 */
interface Place {
  folder: Opened;
  /** The file, as a path through the folder's descriptor. */
  file: string;
}

/** As the kernel reads the path: `resolve()` takes `link/..` for nothing. */
function absolute(path: string): string {
  return isAbsolute(path) ? path : `${process.cwd()}/${path}`;
}

function withPlace<T>(path: string, use: (place: Place) => T): T {
  return withOpen(dirname(path), folderOnly, (folder) =>
    use({ folder, file: `${folder.path}/${basename(path)}` }),
  );
}

function isAlive(path: string): boolean {
  return native.isSocketAlive(Buffer.from(path));
}

/** Whether anybody listens at a socket's file of ours that nobody may write to: it takes the right to ask. */
function isOwnAlive({ path, stats }: Opened): boolean {
  chmodSync(path, 0o600);
  const alive = isAlive(path);
  if (alive) chmodSync(path, stats.mode & 0o777);
  return alive;
}

/** Throws unless the file is a socket of ours that nobody listens on any more. */
function checkStale({ file }: Place, path: string): void {
  withOpen(file, fileOnly, (socket) => {
    const { stats } = socket;
    if (!stats.isSocket()) throw inUse(path, 'There is a file that is no socket; it was not touched');
    const isOurs = stats.uid === process.geteuid?.();
    let alive: boolean;
    try {
      alive = isAlive(socket.path);
    } catch (error) {
      if (!isCode(error, 'EACCES')) throw error;
      if (!isOurs) throw inUse(path, "Somebody else's socket is there");
      alive = isOwnAlive(socket);
    }
    if (alive) throw inUse(path, 'Somebody listens there');
    if (isOurs) return;
    const why = `A socket of the user ${stats.uid} is there, on which nobody listens: remove it, if it is not needed`;
    throw inUse(path, why);
  });
}

function replaceIn<T>(place: Place, path: string, bind: () => T): T {
  checkStale(place, path);
  const lock = lockFolder(place.folder.path);
  try {
    checkStale(place, path);
    unlinkSync(place.file);
    return bind();
  } finally {
    if (lock !== undefined) native.close(lock);
  }
}

/**
 * Removes a dead server's file, if it was this user's and nobody listens there, and calls `bind` before another server can
 * begin there.
 *
 * @throws DmaBufError `EADDRINUSE` when there is anything else; nothing was touched then
 */
export function replaceStale<T>(path: string, bind: () => T): T {
  try {
    return withPlace(path, (place) => replaceIn(place, path, bind));
  } catch (error) {
    throw fromPlace(error, path);
  }
}

function bindAt(address: Uint8Array, mode: number, path: string): NativeHandle {
  try {
    return native.listen(address, mode);
  } catch (error) {
    throw atPath(error, path);
  }
}

/** An error of Node's own about a file in the place, as one of the package's about the path that the user knows. */
function fromPlace(error: unknown, path: string): unknown {
  const { errno, syscall, path: where } = error as { errno?: number; syscall?: string; path?: string };
  if (errno === undefined || where?.startsWith('/proc/self/fd/') !== true) return fromNode(error);
  return createError(errno, syscall, path);
}

function exists(file: string): boolean {
  return lstatSync(file, { throwIfNoEntry: false }) !== undefined;
}

/** Binds in the place, over what a dead server left behind if need be. */
function bindIn(place: Place, address: Uint8Array, mode: number, path: string): NativeHandle {
  for (let tries = 3; ; tries--) {
    try {
      // What is there already is never taken for what was bound, wherever the path leads by then.
      if (!exists(place.file)) return bindAt(address, mode, path);
    } catch (error) {
      if (!isCode(error, 'EADDRINUSE') || tries === 0) throw error;
    }
    try {
      return replaceIn(place, path, () => bindAt(address, mode, path));
    } catch (error) {
      // ENOENT: somebody else has taken it away.
      if (!isCode(error, 'ENOENT') || tries === 0) throw error;
    }
  }
}

function bindName(address: Uint8Array, mode: number, path: string): NativeHandle {
  try {
    return bindAt(address, mode, path);
  } catch (error) {
    throw isCode(error, 'EADDRINUSE') ? inUse(path.replace('\0', '@'), 'Somebody listens there') : error;
  }
}

/** A file or a folder, whatever its name. */
interface Identity {
  dev: number;
  ino: number;
}

const identityOf = ({ dev, ino }: Stats): Identity => ({ dev, ino });
const isSame = (one: Identity, other: Identity): boolean => one.dev === other.dev && one.ino === other.ino;

/** The file of a listening socket. */
interface SocketFile {
  path: string;
  folder: Identity;
  file: Identity;
}

/** Gives the socket's file the permissions that the umask took, and says which file it is. */
function finishFile({ folder, file }: Place, path: string, mode: number): SocketFile {
  return withOpen(file, fileOnly, (socket) => {
    const { stats } = socket;
    if (!stats.isSocket()) throw inUse(path, 'Somebody replaced the socket');
    if ((stats.mode & 0o777) !== mode) chmodSync(socket.path, mode);
    return { path: absolute(path), folder: identityOf(folder.stats), file: identityOf(stats) };
  });
}

/** What a folder that cannot be looked at keeps bind(2) from. */
const folderErrors: readonly string[] = ['ENOENT', 'EACCES', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'];

/** Calls `use` with the place where a server shall listen. */
function withPlaceToBind<T>(path: string, use: (place: Place) => T): T {
  let isOpen = false;
  try {
    return withPlace(path, (place) => {
      isOpen = true;
      return use(place);
    });
  } catch (error) {
    const { errno, code } = error as NodeJS.ErrnoException;
    if (isOpen || errno === undefined || !folderErrors.includes(code ?? '')) throw fromPlace(error, path);
    throw createError(errno, 'bind', path);
  }
}

/** Starts to listen; `toChannel` makes channels of connections. */
export function listenAt(
  path: string,
  { mode = 0o600 }: ServerOptions,
  toChannel: (handle: NativeHandle) => DmaBufChannel,
): DmaBufServer {
  const address = socketAddress(path);
  checkInteger(mode, 'mode', 0, 0o777);
  const serve = (handle: NativeHandle, toFile: () => SocketFile | undefined): DmaBufServer => {
    try {
      return new DmaBufServer(handle, path, toFile(), toChannel, construct);
    } catch (error) {
      native.close(handle);
      throw error;
    }
  };
  if (address[0] === 0) return serve(bindName(address, mode, path), () => undefined);
  // From down there, the stack would not reach the caller.
  const site = placeOfCall();
  return withPlaceToBind(path, (place) => {
    const handle = bindIn(place, address, mode, path);
    try {
      return askedForAt(site, () => serve(handle, () => finishFile(place, path, mode)));
    } catch (error) {
      removeDead(place, path);
      throw error;
    }
  });
}

/** Removes a socket's file that nobody listens on. */
function removeDead(place: Place, path: string): void {
  try {
    replaceIn(place, path, () => {});
  } catch {
    // The next server there replaces it.
  }
}

/** What a new channel takes, in messages. */
const costOfChannel = 16;

/** Known to this module alone, so that nobody else constructs. */
const construct = Symbol('DmaBufServer');

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
  }

  /** Where it listens, as it was given. */
  readonly path: string;
  #handle: NativeHandle;
  #fd = -1; // until somebody asks
  readonly #file: SocketFile | undefined;
  readonly #toChannel: (handle: NativeHandle) => DmaBufChannel;
  #sentinel: Sentinel;
  readonly #accepting: SocketLine;

  /** @internal */
  constructor(
    handle: NativeHandle,
    path: string,
    file: SocketFile | undefined,
    toChannel: (handle: NativeHandle) => DmaBufChannel,
    token: symbol,
  ) {
    if (token !== construct) throw illegalConstructor('DmaBufServer', 'DmaBufChannel.listen()');
    this.path = path;
    this.#handle = handle;
    this.#file = file;
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
    if (this.#file !== undefined) removeOwn(this.#file);
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

/** Removes the server's own file, and no other that took its place. */
function removeOwn({ path, folder, file }: SocketFile): void {
  try {
    withPlace(path, (place) => {
      if (!isSame(place.folder.stats, folder) || !isSame(lstatSync(place.file), file)) return;
      unlinkSync(place.file);
    });
  } catch {
    // It is gone, or may not be removed any more: the next server there replaces it.
  }
}
