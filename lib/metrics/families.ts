import type { Aggregator } from 'prom-client';
import type { ProcessUsage, Snapshot } from '../inspect/model.js';

/** One value of a metric, with its labels. */
export interface Sample {
  labels: Readonly<Record<string, string>>;
  value: number;
}

/** A gauge, and how its values follow from a snapshot. */
export interface Family {
  /** Without the prefix. */
  name: string;
  help: string;
  labelNames: readonly string[];
  /** How the figures of a cluster's workers are aggregated: they all inspect the same machine. */
  aggregator: Aggregator;
  /** Empty when the snapshot does not know the value. */
  samples(figures: Figures): Iterable<Sample>;
}

/** A snapshot, with results that several metrics share. */
export interface Figures {
  snapshot: Snapshot;
  processes: readonly ProcessRow[];
}

/** What one process holds, or what all processes without their own row hold. */
interface ProcessRow {
  labels: Readonly<Record<string, string>>;
  usage: Omit<ProcessUsage, 'pid' | 'command'>;
}

/**
 * Untrusted text as the value of a label. The exposition format allows any text, so this protects readers: characters
 * that move a terminal's cursor or change the direction of text, and halves of characters, become U+FFFD.
 */
export function labelValue(text: string): string {
  return text.replace(/[\p{Cc}\p{Cs}\p{Bidi_Control}\u2028\u2029]/gu, '\ufffd');
}

/** Adds up the rows after the first `limit`, under a process id that no process has. */
function processRows(processes: readonly ProcessUsage[], limit: number): ProcessRow[] {
  const largestFirst = [...processes].sort((a, b) => b.pss - a.pss || b.rss - a.rss || a.pid - b.pid);
  const rows: ProcessRow[] = largestFirst.slice(0, limit).map((usage) => ({
    labels: { pid: String(usage.pid), command: labelValue(usage.command) },
    usage,
  }));
  const rest = largestFirst.slice(limit);
  if (rest.length > 0) {
    const usage = { buffers: 0, fds: 0, mappings: 0, rss: 0, pss: 0 };
    for (const { buffers, fds, mappings, rss, pss } of rest) {
      usage.buffers += buffers;
      usage.fds += fds;
      usage.mappings += mappings;
      usage.rss += rss;
      usage.pss += pss;
    }
    rows.push({ labels: { pid: 'other', command: 'other' }, usage });
  }
  return rows;
}

/** Computes what the metrics share; at most `limit` processes have their own rows. */
export function toFigures(snapshot: Snapshot, limit: number): Figures {
  return { snapshot, processes: processRows(snapshot.processes, limit) };
}

/** Adds up by label: names that differ only in replaced characters, or are `unknown`, share one label. */
function sumUp(label: string, entries: Iterable<readonly [string, number]>): Sample[] {
  const sums = new Map<string, number>();
  for (const [text, value] of entries) {
    const name = labelValue(text) || 'unknown';
    sums.set(name, (sums.get(name) ?? 0) + value);
  }
  return [...sums].map(([name, value]) => ({ labels: { [label]: name }, value }));
}

function single(name: string, help: string, of: (snapshot: Snapshot) => number | undefined): Family {
  return {
    name,
    help,
    labelNames: [],
    aggregator: 'first',
    samples({ snapshot }) {
      const value = of(snapshot);
      return value === undefined ? [] : [{ labels: {}, value }];
    },
  };
}

function byExporter(name: string, help: string, key: 'size' | 'buffers'): Family {
  return {
    name,
    help,
    labelNames: ['exporter'],
    aggregator: 'first',
    samples: ({ snapshot }) =>
      sumUp(
        'exporter',
        snapshot.exporters.map((usage) => [usage.exporter, usage[key]] as const),
      ),
  };
}

function byProcess(name: string, help: string, key: keyof ProcessRow['usage']): Family {
  return {
    name,
    help,
    labelNames: ['pid', 'command'],
    aggregator: 'first',
    samples: ({ processes }) => processes.map(({ labels, usage }) => ({ labels, value: usage[key] })),
  };
}

function bySource(name: string, help: string, sources: (snapshot: Snapshot) => readonly string[]): Family {
  return {
    name,
    help,
    labelNames: ['source'],
    aggregator: 'first',
    samples: ({ snapshot }) =>
      sumUp(
        'source',
        sources(snapshot).map((source) => [source, 1] as const),
      ),
  };
}

/** Every gauge that a snapshot fills. */
export const families: readonly Family[] = [
  single('total_bytes', 'Size of all dma-bufs that could be seen, each once.', ({ total }) => total.size),
  single('total_buffers', 'Number of dma-bufs that could be seen.', ({ total }) => total.buffers),
  byExporter('exporter_bytes', 'Size of the dma-bufs by the driver or heap that made them.', 'size'),
  byExporter('exporter_buffers', 'Number of dma-bufs by the driver or heap that made them.', 'buffers'),
  byProcess(
    'process_rss_bytes',
    'Size of the different dma-bufs that a process holds, shared ones in full.',
    'rss',
  ),
  byProcess(
    'process_pss_bytes',
    'Share of a process in the dma-bufs that it holds: the size of each divided by the number of its holders.',
    'pss',
  ),
  byProcess('process_buffers', 'Number of different dma-bufs that a process holds.', 'buffers'),
  byProcess('process_fds', 'File descriptors of a process that refer to dma-bufs.', 'fds'),
  byProcess('process_mappings', 'Mappings of dma-bufs in a process.', 'mappings'),
  single('processes', 'Processes that could be seen to hold dma-bufs.', ({ processes }) => processes.length),
  single(
    'unaccounted_bytes',
    'Size of the dma-bufs that no visible process holds. Absent when no source lists every buffer.',
    ({ unaccounted }) => unaccounted?.size,
  ),
  single(
    'unaccounted_buffers',
    'Number of dma-bufs that no visible process holds. Absent when no source lists every buffer.',
    ({ unaccounted }) => unaccounted?.buffers,
  ),
  single(
    'inexact_buffers',
    'Number of dma-bufs of whose size only a part could be seen.',
    ({ buffers }) => buffers.filter(({ sizeIsLowerBound }) => sizeIsLowerBound).length,
  ),
  single(
    'unreadable_processes',
    'Processes whose descriptors or mappings could not be read.',
    ({ unreadable }) => unreadable.length,
  ),
  bySource('source_info', 'The kernel interfaces that the figures come from.', ({ source }) => source),
  bySource(
    'source_failures',
    'Kernel interfaces that have more information and could not be used.',
    ({ attempts }) => attempts.map(({ source }) => source),
  ),
];
