import { readdirSync } from 'node:fs';
import type { Command } from 'commander';
import { type DmaBufInfo, readFdInfo } from '../buffer/fdinfo.js';
import { errnoOf } from '../errnos.js';
import { createError, DmaBufError, fromNode } from '../errors.js';
import { escapeName } from '../escape.js';
import type { BufferUsage, Snapshot } from '../inspect/model.js';
import { snapshot } from '../inspect/snapshot.js';
import { bufferColumns, bufferKeys } from './buffers.js';
import { pid, subcommand, whole, withFormat } from './options.js';
import {
  bold,
  type Column,
  describeTotal,
  type Format,
  note,
  noteUnseen,
  print,
  printJson,
  printRows,
} from './output.js';
import { sortRows } from './sorting.js';
import { formatSize } from './text.js';

const HELP = `
FDS are the numbers of the descriptors, MAPS counts the mappings. With a descriptor, it shows what the kernel reports
about it (/proc/PID/fdinfo/FD).
Exit status: 0; 1 when the process holds no dma-buf, or the descriptor is not a dma-buf; 2 on errors.

Examples:
  dmabuf show 1200         what process 1200 holds, and through which descriptors
  dmabuf show 1200 17      its descriptor 17
  dmabuf show $$ --json`;

/** A descriptor of a process, and what the kernel says about it. */
interface Descriptor extends DmaBufInfo {
  fd: number;
}

/** `dmabuf show` */
export function showCommand(): Command {
  const command = subcommand('show', 'Shows the dma-bufs of one process, or one of its descriptors.', HELP)
    .argument('<pid>', 'the process', pid)
    .argument('[fd]', 'one of its descriptors', whole(0));
  return withFormat(command).action((process: number, fd: number | undefined, format: Format) =>
    fd === undefined ? showProcess(process, format) : showDescriptor(process, fd, format),
  );
}

const descriptorColumns: Column<DmaBufInfo>[] = [
  { title: 'inode', kind: 'number', value: ({ inode }) => inode },
  { title: 'size', kind: 'size', value: ({ size }) => size },
  { title: 'exporter', value: ({ exporter }) => exporter },
  { title: 'refs', kind: 'number', value: ({ references }) => references },
  { title: 'flags', value: ({ flags }) => `0${flags.toString(8)}` },
  { title: 'name', value: ({ name }) => name },
];

async function showDescriptor(pid: number, fd: number, format: Format): Promise<void> {
  const info = readFdInfo(pid, fd);
  if (info === undefined) {
    process.exitCode = 1;
    if (!format.quiet) note('show', `descriptor ${fd} of process ${pid} is not a dma-buf`);
  } else if (format.json) printJson(info);
  else if (format.csv) await printRows([info], descriptorColumns, format, info);
  else {
    const text = {
      ...info,
      name: info.name ?? '-',
      flags: `0${info.flags.toString(8)}`,
      size: formatSize(info.size, format.bytes),
    };
    for (const key of ['inode', 'size', 'exporter', 'references', 'flags', 'name'] as const) {
      print(`${`${key}:`.padEnd(12)}${escapeName(String(text[key]))}`);
    }
  }
}

/** The dma-bufs among a process's descriptors. Descriptors that are closed meanwhile are left out. */
function descriptorsOf(pid: number): Descriptor[] {
  let entries: string[];
  try {
    entries = readdirSync(`/proc/${pid}/fd`);
  } catch (error) {
    // Pinned iterators show what /proc does not.
    if (['EACCES', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw fromNode(error);
  }
  const found: Descriptor[] = [];
  for (const fd of entries.map(Number)) {
    try {
      const info = readFdInfo(pid, fd);
      if (info !== undefined) found.push({ fd, ...info });
    } catch (error) {
      if (!(error instanceof DmaBufError)) throw error;
    }
  }
  return found;
}

function checkReadable({ unreadable }: Snapshot, pid: number): void {
  const [refused] = unreadable;
  if (refused === undefined || refused.what === 'mappings') return;
  const folder = refused.error === 'ESRCH' ? `/proc/${pid}` : `/proc/${pid}/fd`;
  throw createError(errnoOf(refused.error), 'open', folder);
}

async function showProcess(pid: number, format: Format): Promise<void> {
  const taken = await snapshot({ pids: [pid] });
  if (taken.buffers.length === 0) checkReadable(taken, pid);
  const descriptors = taken.buffers.length === 0 ? [] : descriptorsOf(pid);
  const fdsOf = ({ inode }: BufferUsage): string =>
    descriptors.flatMap((info) => (info.inode === inode ? [info.fd] : [])).join(' ');
  const columns: Column<BufferUsage>[] = [
    ...bufferColumns(taken.processes).filter(({ title }) => title !== 'holders'),
    { title: 'fds', value: fdsOf, shrinks: true },
    { title: 'maps', kind: 'number', value: ({ holders }) => holders[0]?.mappings },
  ];
  const buffers = sortRows(taken.buffers, bufferKeys, { sort: 'size' });
  if (buffers.length === 0) process.exitCode = 1;
  if (!format.json && !format.csv) {
    const command = escapeName(taken.processes[0]?.command ?? '');
    print(bold(`${`${pid} ${command}`.trimEnd()}: ${describeTotal(taken.total, format)}`));
  }
  if (buffers.length > 0 || format.json || format.csv) {
    await printRows(buffers, columns, format, { ...taken, descriptors });
  }
  noteUnseen('show', taken, format);
}
