import { constants } from 'node:os';
import { createError, type DmaBufError } from '../../errors.js';
import { OwnPromise } from '../../intrinsics.js';
import type { RawSurvey } from '../../native.js';
import type { BufferHolder, BufferUsage, SnapshotSource, Unreadable } from '../model.js';

/** What one source has found. */
export interface Survey {
  source: SnapshotSource;
  /** By inode. */
  buffers: Map<number, BufferUsage>;
  /** The commands of the processes that hold any, by their ids. */
  commands: Map<number, string>;
  unreadable: Unreadable[];
}

/** What Node.js since 24 calls the main thread of whatever it runs. */
export const nodesThread = 'MainThread';

/**
 * A figure that a file of the kernel has in decimal digits.
 *
 * @throws DmaBufError `EOVERFLOW` when it is more than a number can tell from its neighbours
 */
export function figure(digits: string, path: string): number {
  const value = Number(digits);
  if (value <= Number.MAX_SAFE_INTEGER) return value;
  throw createError(-constants.errno.EOVERFLOW, 'read', path);
}

/** How many columns the rows of a RawSurvey have. */
const bufferColumns = 5;
const holdingColumns = 4;
const refusalColumns = 3;
const sizeIsLowerBound = 1;
const isGone = 2;

function unreadableOf(refusals: Float64Array): Unreadable[] {
  const found: Unreadable[] = [];
  for (let at = 0; at < refusals.length; at += refusalColumns) {
    const pid = refusals[at] as number;
    const what = refusals[at + 2] === 1 ? 'descriptors' : 'mappings';
    const last = found.at(-1);
    if (last?.pid === pid) last.what = last.what === what ? what : 'both';
    else found.push({ pid, error: createError(refusals[at + 1] as number, 'open').code, what });
  }
  return found;
}

/** A whole number, as the engine holds small ones: without an object for each, which the collector would have to look at. */
function wholeAt(rows: Float64Array, index: number): number {
  const value = rows[index] as number;
  const small = value | 0;
  return small === value ? small : value;
}

/** Makes objects of the addon's rows. */
export function toSurvey(source: SnapshotSource, raw: RawSurvey): Survey {
  const { names, exporters, pids, commands, holdings } = raw;
  const rows = raw.buffers;
  const count = rows.length / bufferColumns;
  const held: (BufferHolder[] | undefined)[] = new Array(count);
  for (let at = 0; at < holdings.length; at += holdingColumns) {
    const holder: BufferHolder = {
      pid: wholeAt(pids, wholeAt(holdings, at + 1)),
      fds: wholeAt(holdings, at + 2),
      mappings: wholeAt(holdings, at + 3),
    };
    const index = wholeAt(holdings, at);
    const holders = held[index];
    // The first push() to an empty array makes room for 17.
    if (holders === undefined) held[index] = [holder];
    else holders.push(holder);
  }
  const buffers = new Map<number, BufferUsage>();
  for (let index = 0, at = 0; index < count; index++, at += bufferColumns) {
    const flags = wholeAt(rows, at + 4);
    if ((flags & isGone) !== 0) continue;
    const usage: BufferUsage = {
      inode: wholeAt(rows, at),
      size: wholeAt(rows, at + 1),
      holders: held[index] ?? [],
    };
    const exporter = exporters[wholeAt(rows, at + 3)];
    if (exporter !== undefined) usage.exporter = exporter;
    const name = names[index];
    if (name !== undefined) usage.name = name;
    const references = wholeAt(rows, at + 2);
    if (references >= 0) usage.references = references;
    if ((flags & sizeIsLowerBound) !== 0) usage.sizeIsLowerBound = true;
    buffers.set(usage.inode, usage);
  }
  return {
    source,
    buffers,
    commands: new Map(commands.map((command, index) => [pids[index] as number, command])),
    unreadable: unreadableOf(raw.refusals),
  };
}

/**
 * A function of the addon that looks at the system on the thread pool, as a promise. What it calls a call that has failed may
 * have the path that is to blame behind it, after a space.
 */
export function onThreadPool<T extends object>(
  start: (done: (resultOrErrno: T | number, syscall: string | undefined) => void) => void,
  explain: (errno: number, syscall: string, path?: string) => DmaBufError = createError,
): Promise<T> {
  return new OwnPromise((resolve, reject) => {
    start((resultOrErrno, blame = '') => {
      if (typeof resultOrErrno !== 'number') return resolve(resultOrErrno);
      try {
        const [, syscall = '', path] = /^(\S*)(?: (.*))?$/s.exec(blame) ?? [];
        reject(explain(resultOrErrno, syscall, path));
      } catch (error) {
        reject(error);
      }
    });
  });
}

type Outcome<T> = { value: T } | { error: unknown };

async function outcomeOf<T>(promise: Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await promise };
  } catch (error) {
    return { error };
  }
}

/** What all of them resolve with, in order. Promise.all() asks for each one's `then`, which programs may have replaced. */
export async function allOf<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  const outcomes: Promise<Outcome<T>>[] = [];
  for (let index = 0; index < promises.length; index++) {
    outcomes[index] = outcomeOf(promises[index] as Promise<T>);
  }
  const values: T[] = [];
  for (let index = 0; index < outcomes.length; index++) {
    const outcome = (await outcomes[index]) as Outcome<T>;
    if ('error' in outcome) throw outcome.error;
    values[index] = outcome.value;
  }
  return values;
}
