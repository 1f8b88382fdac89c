import { type Command, Option } from 'commander';
import type { SnapshotOptions } from '../inspect/options.js';
import { snapshot } from '../inspect/snapshot.js';
import { type BufferFilter, bufferColumns, bufferKeys, matches } from './buffers.js';
import { pids, size, subcommand, whole, withFormat, withSource } from './options.js';
import { type Format, noteUnseen, printRows } from './output.js';
import { sortRows } from './sorting.js';

const HELP = `
Columns: REFS counts every reference (descriptors, mappings, drivers, messages in flight); HOLDERS are the visible
processes that hold the buffer. Names are untrusted: control characters are shown as \\n, \\x1b, \\u202e.
Exit status: 0; 1 when a filter was given and nothing matches; 2 on errors.

Examples:
  dmabuf ls                               all buffers, the largest first
  dmabuf ls --pid 1200,1201               the buffers of two processes
  dmabuf ls --exporter system --min-size 1M
  dmabuf ls --unheld                      buffers that only drivers or messages in flight hold, such as leaks
  dmabuf ls --json | jq '.buffers[].inode'`;

interface Flags extends Format, BufferFilter {
  pid?: number[];
  sort: string;
  reverse?: boolean;
  limit?: number;
  source: NonNullable<SnapshotOptions['source']>;
  devices?: boolean;
}

/** `dmabuf ls` */
export function lsCommand(): Command {
  const command = subcommand(
    'ls',
    'Lists the dma-bufs of this machine and the processes that hold them.',
    HELP,
  )
    .option(
      '-p, --pid <pids>',
      'show buffers that these processes hold (repeatable, or separated by commas)',
      pids,
    )
    .option(
      '-e, --exporter <name>',
      'show buffers of this exporter (repeatable, or separated by commas)',
      (text, earlier: string[] = []) => [...earlier, ...text.split(',')],
    )
    .option('-n, --name <text>', 'show buffers whose name contains this text')
    .option('-m, --min-size <size>', 'show buffers of at least this size: 4096, 64k, 1.5M', size)
    .option('-u, --unheld', 'show buffers that no visible process holds')
    .addOption(
      new Option('-s, --sort <column>', 'the column to sort by')
        .choices(Object.keys(bufferKeys))
        .default('size'),
    )
    .option('-r, --reverse', 'reverse the order')
    .option('-l, --limit <n>', 'show only the first n', whole(0))
    .option('-d, --devices', 'also show the attached devices (reads debugfs: root only, slow)');
  return withFormat(withSource(command)).action(list);
}

async function list(flags: Flags, command: Command): Promise<void> {
  const { pid, source, devices } = flags;
  if (flags.unheld && (source === 'debugfs' || source === 'sysfs')) {
    command.error(`error: --unheld needs to know the holders, and ${source} does not list them`);
  }
  const taken = await snapshot({ pids: pid, source, devices });
  const matching = taken.buffers.filter((buffer) => matches(buffer, flags));
  const buffers = sortRows(matching, bufferKeys, flags);
  const { processes, exporters, unaccounted, ...rest } = taken;
  const total = { buffers: matching.length, size: matching.reduce((sum, buffer) => sum + buffer.size, 0) };
  await printRows(buffers, bufferColumns(processes, devices), flags, { ...rest, buffers, total });
  noteUnseen('ls', taken, flags);
  const filters = [pid, flags.exporter, flags.name, flags.minSize, flags.unheld];
  if (matching.length === 0 && filters.some((filter) => filter !== undefined)) process.exitCode = 1;
}
