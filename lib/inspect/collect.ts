import { existsSync } from 'node:fs';
import { DmaBufError } from '../errors.js';
import type {
  BufferUsage,
  ExporterUsage,
  ProcessUsage,
  Snapshot,
  SnapshotSource,
  SourceAttempt,
  Unreadable,
} from './model.js';
import type { CheckedOptions } from './options.js';
import { type BpfParts, surveyBpf, surveyPinned } from './sources/bpf.js';
import { surveyDebugfs } from './sources/debugfs.js';
import { surveyProcfs, whatProcHides } from './sources/procfs.js';
import type { Survey } from './sources/survey.js';
import { surveySysfs } from './sources/sysfs.js';

/** The result so far. */
class Collection {
  readonly sources = new Set<SnapshotSource>();
  readonly attempts: SourceAttempt[] = [];
  readonly commands = new Map<number, string>();
  unreadable: Unreadable[] = [];
  buffers = new Map<number, BufferUsage>();
  /** Reads the source that lists every buffer again; undefined when there is none. */
  listAgain: (() => Promise<Survey>) | undefined;

  /** Returns what `read` finds, or undefined, with its error among the attempts. */
  async try(source: SnapshotSource, read: () => Promise<Survey>): Promise<Survey | undefined> {
    try {
      return await read();
    } catch (error) {
      // Without the addon, this is not the fault of a source.
      if (!(error instanceof DmaBufError) || error.code === 'ERR_DMABUF_UNSUPPORTED_PLATFORM') throw error;
      this.note({ source, error });
      return undefined;
    }
  }

  /** Adds a refusal, unless the same source has already refused something else in the same way. */
  note({ source, error }: SourceAttempt): void {
    const isKnown = this.attempts.some((one) => one.source === source && one.error.message === error.message);
    if (!isKnown) this.attempts.push({ source, error });
  }

  /** Adds the findings of a source to the result; known values are kept. */
  add(survey: Survey): void {
    this.sources.add(survey.source);
    for (const [pid, command] of survey.commands) this.commands.set(pid, command);
    if (survey.unreadable.length > 0) this.unreadable = survey.unreadable;
    if (this.buffers.size === 0) {
      this.buffers = survey.buffers;
      return;
    }
    for (const [inode, found] of survey.buffers) {
      const known = this.buffers.get(inode);
      if (known === undefined) this.buffers.set(inode, found);
      else complete(known, found);
    }
  }
}

function complete(known: BufferUsage, found: BufferUsage): void {
  if (known.size === 0 || known.sizeIsLowerBound) {
    known.size = found.size;
    if (found.sizeIsLowerBound) known.sizeIsLowerBound = true;
    else delete known.sizeIsLowerBound;
  }
  if (known.exporter === undefined && found.exporter !== undefined) known.exporter = found.exporter;
  if (known.name === undefined && found.name !== undefined) known.name = found.name;
  if (known.references === undefined && found.references !== undefined) known.references = found.references;
  if (known.devices === undefined && found.devices !== undefined) known.devices = found.devices;
  if (known.holders.length === 0) known.holders = found.holders;
}

/** Whether there is no folder of pinned iterators. */
function isMissing(attempt: SourceAttempt | undefined): boolean {
  return attempt?.error.code === 'ENOENT' && attempt.error.syscall === 'openat';
}

/** Reads every buffer, and their holders too where one source knows both. Returns whether it did. */
async function listBuffers(collection: Collection, { pinned, devices }: CheckedOptions): Promise<boolean> {
  const readPinned = (parts: BpfParts): Promise<Survey> => surveyPinned(pinned, parts);
  for (const read of [surveyBpf, readPinned]) {
    const listAgain = (): Promise<Survey> => read({ buffers: true, holders: false });
    const refusals = new Collection();
    const both = await refusals.try('bpf', () => read({ buffers: true, holders: true }));
    // A process that may not read the holders may still read the buffers; if not even those, the reason for that is
    // reported.
    const found = both ?? (await collection.try('bpf', listAgain));
    if (found === undefined) {
      // It is no obstacle that nothing is pinned.
      if (read === readPinned && isMissing(collection.attempts.at(-1))) collection.attempts.pop();
      continue;
    }
    collection.attempts.push(...refusals.attempts);
    collection.add(found);
    // This source itself has removed the buffers that were freed meanwhile.
    if (both === undefined) collection.listAgain = listAgain;
    if (devices) await addDevices(collection);
    return both !== undefined;
  }
  for (const [source, read] of [['debugfs', surveyDebugfs] as const, ['sysfs', surveySysfs] as const]) {
    const found = await collection.try(source, read);
    if (found === undefined) continue;
    collection.add(found);
    collection.listAgain = read;
    break;
  }
  return false;
}

async function addDevices(collection: Collection): Promise<void> {
  const found = await collection.try('debugfs', surveyDebugfs);
  if (found === undefined) return;
  // Buffers that were made since have no known holders.
  for (const inode of found.buffers.keys()) if (!collection.buffers.has(inode)) found.buffers.delete(inode);
  collection.add(found);
}

/** Returns whether this succeeded. */
async function findHolders(collection: Collection): Promise<boolean> {
  const listsAll = collection.listAgain !== undefined;
  if (listsAll) {
    const found = await collection.try('bpf', () => surveyBpf({ buffers: false, holders: true }));
    if (found !== undefined) {
      // Buffers that were made since have no known size.
      for (const inode of found.buffers.keys())
        if (!collection.buffers.has(inode)) found.buffers.delete(inode);
      collection.add(found);
      return true;
    }
  }
  const found = await collection.try('procfs', surveyProcfs);
  if (found !== undefined) collection.add(found);
  else if (!listsAll) throw noSource(collection.attempts);
  await noteWhatIsHidden(collection);
  return found !== undefined;
}

async function noteWhatIsHidden({ attempts }: Collection): Promise<void> {
  const error = await whatProcHides();
  if (error !== undefined) attempts.push({ source: 'procfs', error });
}

function noSource(attempts: SourceAttempt[]): DmaBufError {
  const code = 'ERR_DMABUF_NO_SOURCE';
  const lines = attempts.map(({ source, error }) => `\n  ${source}: ${error.message}`);
  return new DmaBufError(`${code}: no source could list the dma-bufs:${lines.join('')}`, {
    code,
    attempts,
  });
}

/** Without this, buffers that were freed meanwhile would look like buffers of the kernel. */
async function dropVanished({ buffers, listAgain }: Collection): Promise<void> {
  const isUnheld = (buffer: BufferUsage): boolean => buffer.holders.length === 0;
  if (listAgain === undefined || ![...buffers.values()].some(isUnheld)) return;
  const later = await listAgain();
  for (const buffer of buffers.values()) {
    if (isUnheld(buffer) && !later.buffers.has(buffer.inode)) buffers.delete(buffer.inode);
  }
}

/** Uses the best sources that are permitted. */
export async function collect(options: CheckedOptions): Promise<Snapshot> {
  const collection = new Collection();
  const time = new Date();
  let knowsHolders = await listBuffers(collection, options);
  const listsAll = collection.sources.size > 0;
  if (!knowsHolders) {
    knowsHolders = await findHolders(collection);
    await dropVanished(collection);
  }
  return summarize(time, collection, options.pids, listsAll && knowsHolders && options.pids === undefined);
}

/** Reads pinned iterators when none can be loaded, for the reason `refusal`. */
async function readPinnedInstead(pinned: string, refusal: DmaBufError | undefined): Promise<Survey> {
  try {
    return await surveyPinned(pinned, { buffers: true, holders: true });
  } catch (error) {
    // Why none could be loaded matters more than what a pinned iterator lacks, but not more than that one is forged.
    const { code } = error as DmaBufError;
    throw ['ENOENT', 'EACCES', 'ERR_DMABUF_UNSUPPORTED_KERNEL'].includes(code) ? refusal : error;
  }
}

/** Uses only one source. */
export async function collectFrom(source: SnapshotSource, options: CheckedOptions): Promise<Snapshot> {
  const collection = new Collection();
  const time = new Date();
  const { pids } = options;
  switch (source) {
    case 'procfs':
      collection.add(await surveyProcfs());
      await noteWhatIsHidden(collection);
      break;
    case 'debugfs':
      collection.add(await surveyDebugfs());
      break;
    case 'sysfs':
      collection.add(await surveySysfs());
      break;
    case 'bpf': {
      const loaded = await collection.try('bpf', () => surveyBpf({ buffers: true, holders: true }));
      collection.add(loaded ?? (await readPinnedInstead(options.pinned, collection.attempts[0]?.error)));
    }
  }
  if (options.devices && source !== 'debugfs') await addDevices(collection);
  return summarize(time, collection, pids, source === 'bpf' && pids === undefined);
}

/** Keeps only what these processes hold. */
function restrict(collection: Collection, wanted: ReadonlySet<number>): void {
  for (const buffer of collection.buffers.values()) {
    buffer.holders = buffer.holders.filter(({ pid }) => wanted.has(pid));
    if (buffer.holders.length === 0) collection.buffers.delete(buffer.inode);
  }
  collection.unreadable = collection.unreadable.filter(({ pid }) => wanted.has(pid));
  for (const pid of wanted) {
    if (!existsSync(`/proc/${pid}`)) collection.unreadable.push({ pid, error: 'ESRCH', what: 'both' });
  }
}

function processesOf(buffers: Iterable<BufferUsage>, commands: ReadonlyMap<number, string>): ProcessUsage[] {
  const processes = new Map<number, ProcessUsage>();
  for (const { size, holders } of buffers) {
    for (const { pid, fds, mappings } of holders) {
      let process = processes.get(pid);
      if (process === undefined) {
        process = { pid, command: commands.get(pid) ?? '', buffers: 0, fds: 0, mappings: 0, rss: 0, pss: 0 };
        processes.set(pid, process);
      }
      process.buffers++;
      process.fds += fds;
      process.mappings += mappings;
      process.rss += size;
      process.pss += size / holders.length;
    }
  }
  return [...processes.values()].sort((a, b) => a.pid - b.pid);
}

function exportersOf(buffers: readonly BufferUsage[]): ExporterUsage[] {
  const exporters = new Map<string, ExporterUsage>();
  for (const { exporter = '', size } of buffers) {
    const usage = exporters.get(exporter);
    if (usage === undefined) {
      exporters.set(exporter, { exporter, buffers: 1, size });
    } else {
      usage.buffers++;
      usage.size += size;
    }
  }
  return [...exporters.values()].sort((a, b) => b.size - a.size || (a.exporter < b.exporter ? -1 : 1));
}

function sum(buffers: readonly BufferUsage[]): { buffers: number; size: number } {
  return { buffers: buffers.length, size: buffers.reduce((size, buffer) => size + buffer.size, 0) };
}

function summarize(
  time: Date,
  collection: Collection,
  pids: readonly number[] | undefined,
  listsAll: boolean,
): Snapshot {
  // Every other holder of a buffer has a share of it, even one that was not asked for.
  let processes = processesOf(collection.buffers.values(), collection.commands);
  if (pids !== undefined) {
    const wanted = new Set(pids);
    processes = processes.filter(({ pid }) => wanted.has(pid));
    restrict(collection, wanted);
  }
  const buffers = [...collection.buffers.values()].sort((a, b) => a.inode - b.inode);
  const snapshot: Snapshot = {
    time,
    source: [...collection.sources],
    buffers,
    processes,
    exporters: exportersOf(buffers),
    total: sum(buffers),
    unreadable: collection.unreadable,
    attempts: collection.attempts,
  };
  if (listsAll) snapshot.unaccounted = sum(buffers.filter(({ holders }) => holders.length === 0));
  return snapshot;
}
