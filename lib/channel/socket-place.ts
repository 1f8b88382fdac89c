import { constants as fileConstants } from 'node:fs';
import { constants } from 'node:os';
import { basename, dirname } from 'node:path';
import { invalidType, outOfRange } from '../check.js';
import { createError, DmaBufError } from '../errors.js';
import { ceil, max, min } from '../intrinsics.js';
import { native, Register, type Slot, Yielded } from '../native.js';
import './advice.js';
import { lockFolder } from './folder-lock.js';

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

/**
 * Milliseconds that `listen()` waits for the file systems on its way, each time and in all, and `close()` for those that it
 * removes its file from. A thread does the looking up, which may never end.
 */
const patience = 2000;
const patienceInAll = 6000;
export const patienceOfClose: number = 500;

/** Milliseconds that are left, at least one. */
type Patience = () => number;

function limitedPatience(): Patience {
  const end = performance.now() + patienceInAll;
  return () => max(1, min(patience, ceil(end - performance.now())));
}

/** Calls `use` with what was opened, and closes it. */
function withOpen<T>(opened: Slot, use: (opened: Slot) => T): T {
  native.unclaimed[Yielded.only] = 0;
  try {
    return use(opened);
  } finally {
    native.close(opened);
  }
}

/**
 * A socket's place: its folder is looked up once, and its file within the folder. Otherwise a user who may write to a
 * folder above could lead one of several steps to files other than those that were inspected.
 */
interface Place {
  folder: Slot;
  /** The file's name in the folder. */
  name: string;
  patience: Patience;
}

/** A file in a place, by a name that nobody can lead elsewhere. */
interface PlacedFile {
  file: Slot;
  mode: number;
  user: number;
}

function withPlace<T>(path: string, use: (place: Place) => T): T {
  const left = limitedPatience();
  return withOpen(native.openPlace(dirname(path), left()), (folder) =>
    use({ folder, name: basename(path), patience: left }),
  );
}

function withFile<T>({ folder, name, patience }: Place, use: (found: PlacedFile) => T): T {
  return withOpen(native.openInPlace(folder, name, patience()), (file) => {
    const { registers } = native;
    return use({ file, mode: registers[Register.mode] as number, user: registers[Register.uid] as number });
  });
}

const isSocket = (mode: number): boolean => (mode & fileConstants.S_IFMT) === fileConstants.S_IFSOCK;

/** Whether anybody listens at a socket's file of ours that nobody may write to: it takes the right to ask. */
function isOwnAlive({ file, mode }: PlacedFile, patience: Patience): boolean {
  native.changeMode(file, 0o600, patience());
  const alive = native.isSocketAlive(file, patience());
  if (alive) native.changeMode(file, mode & 0o777, patience());
  return alive;
}

/** Throws unless the file is a socket of ours on which no server listens now. */
function checkStale(place: Place, path: string): void {
  withFile(place, (found) => {
    const { file, mode, user } = found;
    if (!isSocket(mode)) throw inUse(path, 'There is a file that is not a socket; it was not touched');
    const isOurs = user === process.geteuid?.();
    let alive: boolean;
    try {
      alive = native.isSocketAlive(file, place.patience());
    } catch (error) {
      if (!isCode(error, 'EACCES')) throw error;
      if (!isOurs) throw inUse(path, "Another user's socket is there");
      alive = isOwnAlive(found, place.patience);
    }
    if (alive) throw inUse(path, 'A server listens there');
    if (isOurs) return;
    const why = `A socket of the user ${user} is there, on which no server listens: remove it if it is not needed`;
    throw inUse(path, why);
  });
}

/**
 * Removes a dead server's file, if it was this user's and nobody listens there, and calls `bind` before another server can
 * begin there.
 *
 * @throws DmaBufError `EADDRINUSE` when there is anything else; nothing was touched then
 */
function replaceIn<T>(place: Place, path: string, bind: () => T): T {
  checkStale(place, path);
  const lock = lockFolder(place.folder, place.patience);
  try {
    checkStale(place, path);
    native.removeInPlace(place.folder, place.name, place.patience());
    return bind();
  } finally {
    if (lock !== undefined) native.close(lock);
  }
}

/** An error about a file in the place, as one about the path that the user knows. */
function inPlace(error: unknown, path: string): unknown {
  return error instanceof DmaBufError && error.path !== undefined ? error : atPath(error, path);
}

function exists(place: Place): boolean {
  try {
    return withFile(place, () => true);
  } catch (error) {
    if (isCode(error, 'ENOENT')) return false;
    throw error;
  }
}

/** A socket that will listen at a path. */
export interface Wanted {
  address: Uint8Array;
  path: string;
  isStream: boolean;
  /** The permissions of its file; undefined: what the umask leaves of all. */
  mode: number | undefined;
}

function bindAt(place: Place, { address, path, isStream, mode = 0o777 }: Wanted): Slot {
  try {
    const listen = isStream ? native.listenToStreamsInPlace : native.listenInPlace;
    return listen(place.folder, address, mode, place.patience());
  } catch (error) {
    throw atPath(error, path);
  }
}

/** Binds in the place, over what a dead server left behind if need be. */
function bindIn(place: Place, wanted: Wanted): Slot {
  // A folder's name, which no socket can have: what is there by the same name without the slash is another matter.
  if (wanted.path.endsWith('/')) return bindAt(place, wanted);
  for (let tries = 3; ; tries--) {
    try {
      // What is there already is never taken for what was bound, wherever the path leads by then.
      if (!exists(place)) return bindAt(place, wanted);
    } catch (error) {
      if (!isCode(error, 'EADDRINUSE') || tries === 0) throw error;
    }
    try {
      return replaceIn(place, wanted.path, () => bindAt(place, wanted));
    } catch (error) {
      // ENOENT: somebody else has taken it away.
      if (!isCode(error, 'ENOENT') || tries === 0) throw error;
    }
  }
}

export function bindName({ address, path, isStream, mode = 0o777 }: Wanted): Slot {
  try {
    return (isStream ? native.listenToStreams : native.listen)(address, mode);
  } catch (failure) {
    const error = atPath(failure, path);
    throw isCode(error, 'EADDRINUSE') ? inUse(path.replace('\0', '@'), 'A server listens there') : error;
  }
}

/** Gives the socket's file the permissions that the umask took, and remembers which file it is. */
function finishFile(place: Place, server: Slot, { path, mode: wanted }: Wanted): void {
  withFile(place, ({ file, mode }) => {
    if (!isSocket(mode)) throw inUse(path, 'Another process replaced the socket');
    if (wanted !== undefined && (mode & 0o777) !== wanted) native.changeMode(file, wanted, place.patience());
    native.keepPlace(server, place.folder, file, place.name);
  });
}

/** What a folder that cannot be looked at keeps bind(2) from. */
const folderErrors: readonly string[] = ['ENOENT', 'EACCES', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'];

/** Whether a lookup did not end, or could not begin for others that do not. */
const isOfLookup = ({ code, syscall }: DmaBufError): boolean =>
  code === 'ETIMEDOUT' || (code === 'EBUSY' && syscall === 'pthread_create');

/** Calls `use` with the place where a server will listen. */
function withPlaceToBind<T>(path: string, use: (place: Place) => T): T {
  let isOpen = false;
  try {
    return withPlace(path, (place) => {
      isOpen = true;
      return use(place);
    });
  } catch (error) {
    if (!(error instanceof DmaBufError) || error.errno === undefined) throw error;
    const isOfFolder = !isOpen && folderErrors.includes(error.code);
    if (isOfFolder || isOfLookup(error)) throw createError(error.errno, 'bind', path);
    throw inPlace(error, path);
  }
}

/** Removes a socket's file that nobody listens on. */
function removeDead(place: Place, path: string): void {
  try {
    replaceIn(place, path, () => {});
  } catch {
    // The next server there replaces it.
  }
}

/**
 * Binds at a path, and calls `serve` with the slot, and with what finishes its file. Where that throws, the file is
 * removed.
 */
export function bindPath<T>(wanted: Wanted, serve: (slot: Slot, finish: () => void) => T): T {
  return withPlaceToBind(wanted.path, (place) => {
    const slot = bindIn(place, wanted);
    try {
      return serve(slot, () => finishFile(place, slot, wanted));
    } catch (error) {
      removeDead(place, wanted.path);
      throw error;
    }
  });
}
