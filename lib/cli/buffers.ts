import { escapeName } from '../escape.js';
import { processChange } from '../inspect/diff.js';
import type { BufferUsage, ProcessUsage, Snapshot } from '../inspect/model.js';
import type { Column, Format } from './output.js';
import type { SortKeys } from './sorting.js';
import { formatSize } from './text.js';

/** Which buffers to show. */
export interface BufferFilter {
  /** Any of these. */
  exporter?: readonly string[] | undefined;
  /** Part of the name. */
  name?: string | undefined;
  /** Bytes. */
  minSize?: number | undefined;
  /** Buffers that no visible process holds. */
  unheld?: boolean | undefined;
}

/** Whether a buffer matches the filter. */
export function matches(buffer: BufferUsage, { exporter, name, minSize = 0, unheld }: BufferFilter): boolean {
  return (
    (exporter === undefined || exporter.includes(buffer.exporter ?? '')) &&
    (name === undefined || (buffer.name ?? '').includes(name)) &&
    buffer.size >= minSize &&
    (!unheld || buffer.holders.length === 0)
  );
}

/** The orders in which buffers can be sorted. */
export const bufferKeys: SortKeys<BufferUsage> = {
  size: ({ size }) => size,
  // The oldest first, unlike other numbers.
  inode: ({ inode }) => -inode,
  name: ({ name }) => name,
  exporter: ({ exporter }) => exporter,
  references: ({ references }) => references,
  holders: ({ holders }) => holders.length,
};

function sizeOf({ size, sizeIsLowerBound }: BufferUsage, { bytes }: Format): string {
  return `${sizeIsLowerBound ? '>=' : ''}${formatSize(size, bytes)}`;
}

/** The columns of buffers; holders with their commands from `processes`. */
export function bufferColumns(processes: readonly ProcessUsage[], devices = false): Column<BufferUsage>[] {
  const commands = new Map(processes.map(({ pid, command }) => [pid, escapeName(command)]));
  const columns: Column<BufferUsage>[] = [
    { title: 'inode', kind: 'number', value: ({ inode }) => inode },
    { title: 'size', kind: 'size', value: ({ size }) => size, text: sizeOf },
    { title: 'exporter', value: ({ exporter }) => exporter, shrinks: true },
    { title: 'refs', kind: 'number', value: ({ references }) => references },
    { title: 'name', value: ({ name }) => name, shrinks: true },
    {
      title: 'holders',
      shrinks: true,
      value: ({ holders }) => holders.map(({ pid }) => pid).join(' '),
      text: ({ holders }) =>
        holders.map(({ pid }) => `${pid} ${commands.get(pid) ?? ''}`.trimEnd()).join(', ') || '-',
    },
  ];
  if (devices) {
    columns.push({
      title: 'devices',
      shrinks: true,
      value: (buffer) => buffer.devices?.join(' '),
    });
  }
  return columns;
}

/** The orders in which processes can be sorted. */
export const processKeys: SortKeys<ProcessUsage> = {
  rss: ({ rss }) => rss,
  pss: ({ pss }) => pss,
  pid: ({ pid }) => -pid,
  command: ({ command }) => command,
  buffers: ({ buffers }) => buffers,
  fds: ({ fds }) => fds,
  mappings: ({ mappings }) => mappings,
};

/** The columns of processes. */
export const processColumns: Column<ProcessUsage>[] = [
  { title: 'pid', kind: 'number', value: ({ pid }) => pid },
  { title: 'buffers', kind: 'number', value: ({ buffers }) => buffers },
  { title: 'fds', kind: 'number', value: ({ fds }) => fds },
  { title: 'mappings', kind: 'number', value: ({ mappings }) => mappings },
  { title: 'rss', kind: 'size', value: ({ rss }) => rss },
  { title: 'pss', kind: 'size', value: ({ pss }) => Math.round(pss) },
  { title: 'command', value: ({ command }) => command, shrinks: true },
];

/** A process, and how much more it holds than at another time. */
export interface GrowingProcess extends ProcessUsage, Growth {}

/** How processes have grown since an earlier snapshot. */
export function withGrowth(
  processes: readonly ProcessUsage[],
  since: readonly ProcessUsage[],
): GrowingProcess[] {
  const earlier = new Map(since.map((process) => [process.pid, process]));
  return processes.map((process) => {
    const { growth, fds, mappings } = processChange(earlier.get(process.pid), process);
    return { ...process, growth, moreFds: fds, moreMappings: mappings };
  });
}

/** What is more, or less, than before. */
export interface Growth {
  /** Bytes. */
  growth: number;
  moreFds: number;
  moreMappings: number;
}

const signed = (number: number): string => (number > 0 ? `+${number}` : String(number));

/** Bytes, or otherwise the descriptors and mappings that were added: those of the same buffers leak, too. */
export function describeGrowth({ growth, moreFds, moreMappings }: Growth, { bytes }: Format): string {
  if (growth !== 0) return formatSize(growth, bytes, true);
  const changes = [
    ...(moreFds === 0 ? [] : [`${signed(moreFds)} fd${Math.abs(moreFds) === 1 ? '' : 's'}`]),
    ...(moreMappings === 0 ? [] : [`${signed(moreMappings)} map${Math.abs(moreMappings) === 1 ? '' : 's'}`]),
  ];
  return changes.join(' ') || '-';
}

const growthColumn: Column<GrowingProcess> = {
  title: 'growth',
  kind: 'size',
  value: ({ growth }) => growth,
  text: describeGrowth,
};

/** The columns of processes in repeated snapshots. */
export const growingProcessColumns: Column<GrowingProcess>[] = [
  ...processColumns.slice(0, -1),
  growthColumn,
  ...processColumns.slice(-1),
];

/** The orders in which they can be sorted. */
export const growingProcessKeys: SortKeys<GrowingProcess> = {
  ...processKeys,
  // Bytes first, however many descriptors there are.
  growth: ({ growth, moreFds, moreMappings }) => growth * 2 ** 20 + moreFds + moreMappings,
};

/** One exporter's buffers. */
export type ExporterRow = Snapshot['exporters'][number];

/** The orders in which exporters can be sorted. */
export const exporterKeys: SortKeys<ExporterRow> = {
  size: ({ size }) => size,
  buffers: ({ buffers }) => buffers,
  exporter: ({ exporter }) => exporter,
};

/** The columns of exporters. */
export const exporterColumns: Column<ExporterRow>[] = [
  { title: 'exporter', value: ({ exporter }) => exporter, shrinks: true },
  { title: 'buffers', kind: 'number', value: ({ buffers }) => buffers },
  { title: 'size', kind: 'size', value: ({ size }) => size },
];
