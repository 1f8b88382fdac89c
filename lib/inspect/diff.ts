import { invalidType } from '../check.js';
import type { BufferUsage, ProcessUsage, Snapshot } from './model.js';

/** A buffer that is in both snapshots, but not the same in both. */
export interface BufferChange {
  /** The buffer in the first snapshot. */
  before: BufferUsage;
  /** The buffer in the second snapshot. */
  after: BufferUsage;
}

/** A process that holds more, or less, than before. */
export interface ProcessChange {
  /** Process id. */
  pid: number;
  /** The name of its main thread, as in {@link ProcessUsage.command}. */
  command: string;
  /** Absent when it held nothing, or did not exist. */
  before?: ProcessUsage;
  /** Absent when the process no longer holds anything, or has ended. */
  after?: ProcessUsage;
  /** How much `rss` has grown, in bytes; negative when it has shrunk. */
  growth: number;
  /** How many more descriptors of buffers it has; negative when it has fewer. */
  fds: number;
  /** How many more mappings of buffers it has; negative when it has fewer. */
  mappings: number;
}

/** What has changed from one snapshot to another. */
export interface SnapshotDiff {
  /** Buffers that only the second snapshot has, in the order of their inodes. */
  appeared: BufferUsage[];
  /** Buffers that only the first snapshot has. */
  gone: BufferUsage[];
  /** Buffers whose name, references, devices or holders have changed. */
  changed: BufferChange[];
  /**
   * Processes that hold more bytes than before, or the same bytes through more descriptors or mappings (which are also
   * leaks); the largest growth first.
   */
  grown: ProcessChange[];
  /**
   * Processes that hold fewer bytes, or the same bytes through fewer descriptors or mappings; the largest loss first.
   */
  shrunk: ProcessChange[];
  /** How buffers and bytes have grown, by exporter, the largest growth first; negative when they have shrunk. */
  exporters: {
    /** `''` for buffers whose exporter no source knows. */
    exporter: string;
    /** How many more. */
    buffers: number;
    /** Bytes. */
    size: number;
  }[];
  /** How buffers and bytes have grown in all; negative when they have shrunk. */
  total: {
    /** How many more. */
    buffers: number;
    /** Bytes. */
    size: number;
  };
}

function isSame(before: BufferUsage, after: BufferUsage): boolean {
  return (
    before.name === after.name &&
    before.references === after.references &&
    before.size === after.size &&
    before.devices?.join('\n') === after.devices?.join('\n') &&
    before.holders.length === after.holders.length &&
    before.holders.every((holder) =>
      after.holders.some(
        ({ pid, fds, mappings }) => pid === holder.pid && fds === holder.fds && mappings === holder.mappings,
      ),
    )
  );
}

/** How one process has changed; an absent one held nothing. */
export function processChange(
  was: ProcessUsage | undefined,
  is: ProcessUsage | undefined,
): Pick<ProcessChange, 'growth' | 'fds' | 'mappings'> {
  return {
    growth: (is?.rss ?? 0) - (was?.rss ?? 0),
    fds: (is?.fds ?? 0) - (was?.fds ?? 0),
    mappings: (is?.mappings ?? 0) - (was?.mappings ?? 0),
  };
}

/** Positive for what has grown, negative for what has shrunk: bytes count before descriptors and mappings. */
function compareGrowth(a: ProcessChange, b: Pick<ProcessChange, 'growth' | 'fds' | 'mappings'>): number {
  return a.growth - b.growth || a.fds + a.mappings - (b.fds + b.mappings);
}

const unchanged = { growth: 0, fds: 0, mappings: 0 };

function processChanges(before: Snapshot, after: Snapshot): ProcessChange[] {
  const earlier = new Map(before.processes.map((process) => [process.pid, process]));
  const changes: ProcessChange[] = [];
  for (const process of after.processes) {
    const was = earlier.get(process.pid);
    earlier.delete(process.pid);
    const change: ProcessChange = {
      pid: process.pid,
      command: process.command,
      after: process,
      ...processChange(was, process),
    };
    if (was !== undefined) change.before = was;
    changes.push(change);
  }
  for (const was of earlier.values()) {
    changes.push({ pid: was.pid, command: was.command, before: was, ...processChange(was, undefined) });
  }
  return changes;
}

function exporterChanges(before: Snapshot, after: Snapshot): SnapshotDiff['exporters'] {
  const changes = new Map<string, { exporter: string; buffers: number; size: number }>();
  const add = (snapshot: Snapshot, sign: 1 | -1): void => {
    for (const { exporter, buffers, size } of snapshot.exporters) {
      const change = changes.get(exporter) ?? { exporter, buffers: 0, size: 0 };
      change.buffers += sign * buffers;
      change.size += sign * size;
      changes.set(exporter, change);
    }
  };
  add(after, 1);
  add(before, -1);
  return [...changes.values()]
    .filter(({ buffers, size }) => buffers !== 0 || size !== 0)
    .sort((a, b) => b.size - a.size || b.buffers - a.buffers);
}

function checkSnapshot(value: unknown, name: string): void {
  const given = value as Partial<Snapshot> | null | undefined;
  if (!Array.isArray(given?.buffers) || !Array.isArray(given.processes) || !Array.isArray(given.exporters)) {
    throw invalidType(name, 'a snapshot', value);
  }
}

/**
 * Compares two snapshots. Buffers are identified by their inodes, processes by their ids. Snapshots from different
 * sources or with different rights do not show the same buffers: compare like with like.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`
 */
export function diff(before: Snapshot, after: Snapshot): SnapshotDiff {
  checkSnapshot(before, 'first argument');
  checkSnapshot(after, 'second argument');
  const earlier = new Map(before.buffers.map((buffer) => [buffer.inode, buffer]));
  const appeared: BufferUsage[] = [];
  const changed: BufferChange[] = [];
  for (const buffer of after.buffers) {
    const was = earlier.get(buffer.inode);
    earlier.delete(buffer.inode);
    if (was === undefined) appeared.push(buffer);
    else if (!isSame(was, buffer)) changed.push({ before: was, after: buffer });
  }
  const changes = processChanges(before, after);
  return {
    appeared,
    gone: [...earlier.values()],
    changed,
    grown: changes
      .filter((change) => compareGrowth(change, unchanged) > 0)
      .sort((a, b) => compareGrowth(b, a)),
    shrunk: changes.filter((change) => compareGrowth(change, unchanged) < 0).sort(compareGrowth),
    exporters: exporterChanges(before, after),
    total: {
      buffers: after.total.buffers - before.total.buffers,
      size: after.total.size - before.total.size,
    },
  };
}
