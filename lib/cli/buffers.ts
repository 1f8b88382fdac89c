import type { BufferUsage, ProcessUsage, Snapshot } from '../inspect/snapshot.js';
import type { Column, Format } from './output.js';
import type { SortKeys } from './sorting.js';
import { escapeName, formatSize } from './text.js';

/** Which buffers to show. */
export interface BufferFilter {
  /** Any of these. */
  exporter?: readonly string[] | undefined;
  /** Part of the name. */
  name?: string | undefined;
  /** Bytes. */
  minSize?: number | undefined;
  /** Those that no process holds, as far as could be seen. */
  unheld?: boolean | undefined;
}

/** Whether a buffer passes. */
export function matches(buffer: BufferUsage, { exporter, name, minSize = 0, unheld }: BufferFilter): boolean {
  return (
    (exporter === undefined || exporter.includes(buffer.exporter ?? '')) &&
    (name === undefined || (buffer.name ?? '').includes(name)) &&
    buffer.size >= minSize &&
    (!unheld || buffer.holders.length === 0)
  );
}

/** By what buffers can be sorted. */
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

/** The columns of buffers; holders with the commands that `processes` tells. */
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

/** By what processes can be sorted. */
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

/** One exporter's buffers. */
export type ExporterRow = Snapshot['exporters'][number];

/** By what exporters can be sorted. */
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
