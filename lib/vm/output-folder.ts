import {
  chmodSync,
  createWriteStream,
  type Dirent,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statfsSync,
  symlinkSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { escapeName } from '../escape.js';
import { makeFolders } from './cache-folder.js';
import { VmError } from './errors.js';

/** A folder of this machine's whose files a guest writes. */
export interface OutputFolder {
  /** Where the guest's files lie until it has ended: QEMU writes there, in its own way (see {@link collect}). */
  share: string;
  /** A file for the kernel's log, which comes along. */
  kernelLog: string;
  /**
   * Moves the files to where they belong, once QEMU has ended.
   *
   * @throws VmError `ERR_DMABUF_VM_STORAGE` when some could not be moved; they stay where they are, and the message says where
   */
  collect(progress: (message: string) => void): void;
}

/** The start of the name of a folder in the target: what is on the way. */
const ON_THE_WAY = '.dmabuf-vm-';
const KERNEL_LOG = 'kernel.log';

/** What a full file system has left. */
const NEARLY_NOTHING = 64 * 1024;

/**
 * Runs something with the folder that QEMU writes to, if one is wanted, and has its files come to where they belong, however
 * it ends. The first failure is the one that is thrown.
 */
export async function withOutput<T>(
  settings: {
    output: { target: string } | undefined;
    kernelLog: Writable | undefined;
    cwd: string;
    progress: (message: string) => void;
  },
  run: (given: { share: string | undefined; kernelLog: Writable | undefined }) => Promise<T>,
): Promise<T> {
  const { output, cwd, progress } = settings;
  if (output === undefined) return run({ share: undefined, kernelLog: settings.kernelLog });
  const folder = openOutput(output.target, cwd);
  const own = settings.kernelLog === undefined ? createWriteStream(folder.kernelLog) : undefined;
  own?.on('error', () => {}); // who writes to it tells of it
  let result: T;
  try {
    result = await run({ share: folder.share, kernelLog: settings.kernelLog ?? own });
    await closed(own);
  } catch (error) {
    await closed(own);
    try {
      folder.collect(progress);
    } catch (second) {
      progress((second as Error).message);
    }
    throw error;
  }
  folder.collect(progress);
  return result;
}

/**
 * Makes the folder that a guest's files come to, and within it the one that QEMU writes to, so that a guest can fill what
 * the folder can hold and the files need no second place.
 */
export function openOutput(path: string, cwd: string): OutputFolder {
  const target = resolve(path);
  try {
    makeFolders(target);
    refuseToHide(target, cwd);
    const folder = mkdtempSync(join(target, ON_THE_WAY));
    const share = join(folder, 'files');
    mkdirSync(share);
    const kernelLog = join(folder, KERNEL_LOG);
    return { share, kernelLog, collect: (progress) => collect(folder, share, target, progress) };
  } catch (cause) {
    if (cause instanceof VmError) throw cause;
    const reason = (cause as Error).message;
    throw new VmError('ERR_DMABUF_VM_OPTION', `output (--output): ${target} cannot be written: ${reason}`, {
      cause,
    });
  }
}

/** In the guest, an empty folder lies in the target's place. */
function refuseToHide(target: string, cwd: string): void {
  const real = realpathSync(target);
  const place = `${realpathOf(cwd)}/`;
  if (!place.startsWith(real === '/' ? real : `${real}/`)) return;
  throw new VmError(
    'ERR_DMABUF_VM_OPTION',
    `output (--output): the command starts in ${cwd}, which an empty ${target} would hide from it`,
    { hint: 'Give a folder below' },
  );
}

function realpathOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path; // one that is the guest's alone
  }
}

/**
 * QEMU's `mapped-file`: whatever the guest makes, links, devices and sockets too, is a plain file or a folder on this side,
 * readable by its user alone. What it is for the guest stands in a file of the same name in this folder beside it.
 */
const ATTRIBUTES = Buffer.from('.virtfs_metadata');
const ATTRIBUTES_OF_ROOT = Buffer.from('.virtfs_metadata_root');

const TYPE = 0o170000;
const REGULAR = 0o100000;
const LINK = 0o120000;

/** What is moved from where to where, and what came of it. Names are bytes, and not always text. */
interface Move {
  files: number;
  /** What has no place on this machine: devices, sockets, FIFOs, and links that lead out of the folder. */
  leftOut: string[];
  problems: string[];
}

function collect(folder: string, share: string, target: string, progress: (message: string) => void): void {
  const full = isFull(target);
  const move: Move = { files: 0, leftOut: [], problems: [] };
  const hasOwnLog = lstatSync(join(share, KERNEL_LOG), { throwIfNoEntry: false }) !== undefined;
  attempt(move, target, () => moveAll(Buffer.from(share), Buffer.from(target), move));
  if (hasOwnLog)
    progress(`the command has written a ${KERNEL_LOG} of its own: that of its kernel is not kept`);
  else attempt(move, join(target, KERNEL_LOG), () => moveLog(folder, target));
  if (full) progress(`the file system of ${target} is full: what the command wrote there may be cut off`);
  if (move.leftOut.length > 0) {
    progress(`only files, folders and links within the folder come back; left out: ${some(move.leftOut)}`);
  }
  if (move.problems.length > 0) {
    const message = `not all that the command wrote could be moved to ${target}; the rest is in ${share}: `;
    throw new VmError('ERR_DMABUF_VM_STORAGE', message + some(move.problems));
  }
  attempt(move, folder, () => rmSync(folder, { recursive: true, force: true }));
  if (move.problems.length > 0) progress(`a folder could not be removed: ${some(move.problems)}`);
  progress(`${move.files} ${move.files === 1 ? 'file' : 'files'} came to ${target}`);
}

/** There is none where the caller has it written to another place. */
function moveLog(folder: string, target: string): void {
  const log = join(folder, KERNEL_LOG);
  if (existsSync(log)) renameSync(log, join(target, KERNEL_LOG));
}

async function closed(stream: Writable | undefined): Promise<void> {
  if (stream === undefined) return;
  stream.end();
  await finished(stream).catch(() => {});
}

function moveAll(from: Buffer, to: Buffer, move: Move): void {
  for (const entry of readdirSync(from, { withFileTypes: true, encoding: 'buffer' })) {
    const name = entry.name as unknown as Buffer;
    if (name.equals(ATTRIBUTES) || name.equals(ATTRIBUTES_OF_ROOT)) continue;
    const target = below(to, name);
    attempt(move, target, () =>
      moveOne(entry as unknown as Dirent, below(from, name), target, modeOf(from, name), move),
    );
  }
}

function moveOne(entry: Dirent, source: Buffer, target: Buffer, mode: number | undefined, move: Move): void {
  const there = lstatSync(target, { throwIfNoEntry: false });
  if (entry.isDirectory()) {
    // A link to a folder is never followed.
    if (there !== undefined && !there.isDirectory()) throw inTheWay(there);
    if (there === undefined) mkdirSync(target, { mode: ((mode ?? 0o755) & 0o755) | 0o700 });
    moveAll(source, target, move);
    return;
  }
  const type = (mode ?? REGULAR) & TYPE;
  const link = entry.isFile() && type === LINK ? readFileSync(source) : undefined;
  if (!entry.isFile() || (type === LINK ? !staysBelow(link as Buffer) : type !== REGULAR)) {
    move.leftOut.push(shown(target));
    return;
  }
  if (there?.isDirectory()) throw inTheWay(there);
  if (link === undefined) {
    // No rights for others to write, and none that a program would get from its file.
    chmodSync(source, ((mode ?? 0o644) & 0o755) | 0o600);
    renameSync(source, target);
  } else {
    rmSync(target, { force: true });
    symlinkSync(link, target);
  }
  move.files += 1;
}

function inTheWay(there: Stats): Error {
  const what = there.isDirectory() ? 'a folder' : there.isSymbolicLink() ? 'a symbolic link' : 'a file';
  return new Error(`${what} of this name is in the way`);
}

/** Whether a link leads to something beside or below it, and so never out of the folder. */
function staysBelow(link: Buffer): boolean {
  const text = link.toString('latin1');
  return text !== '' && !text.startsWith('/') && !text.split('/').includes('..');
}

/** The mode that a file has for the guest, its type included; undefined where QEMU has noted nothing. */
function modeOf(folder: Buffer, name: Buffer): number | undefined {
  try {
    const text = readFileSync(below(below(folder, ATTRIBUTES), name), 'latin1');
    const mode = /^virtfs\.mode=(\d+)$/m.exec(text)?.[1];
    return mode === undefined ? undefined : Number(mode);
  } catch {
    return undefined;
  }
}

function below(folder: Buffer, name: Buffer): Buffer {
  return Buffer.concat([folder, Buffer.from('/'), name]);
}

/** Does one thing, and has the others go on when it fails. */
function attempt(move: Move, path: Buffer | string, work: () => void): void {
  try {
    work();
  } catch (error) {
    move.problems.push(`${shown(path)}: ${escapeName((error as Error).message)}`);
  }
}

function shown(path: Buffer | string): string {
  return escapeName(path.toString());
}

function some(texts: readonly string[]): string {
  const most = 5;
  const more = texts.length > most ? `, and ${texts.length - most} more` : '';
  return texts.slice(0, most).join(', ') + more;
}

function isFull(folder: string): boolean {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize < NEARLY_NOTHING;
}
