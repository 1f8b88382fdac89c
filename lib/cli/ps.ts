import { type Command, Option } from 'commander';
import type { SnapshotOptions } from '../inspect/options.js';
import { snapshot } from '../inspect/snapshot.js';
import { processColumns, processKeys } from './buffers.js';
import { subcommand, whole, withFormat, withSource } from './options.js';
import { describeTotal, type Format, noteUnseen, print, printRows } from './output.js';
import { sortRows } from './sorting.js';

const HELP = `
RSS is the size of all buffers that the process holds; PSS is its share: the size of each buffer divided by the number of
its holders. The last line has the total, each buffer once, and what no visible process holds.
Exit status: 0; 2 on errors.

Examples:
  dmabuf ps                      the largest holders first
  dmabuf ps --sort pss --limit 5
  sudo dmabuf ps                 the processes of all users
  dmabuf ps --json | jq '.total.size'`;

interface Flags extends Format {
  sort: string;
  reverse?: boolean;
  limit?: number;
  source: NonNullable<SnapshotOptions['source']>;
}

/** `dmabuf ps` */
export function psCommand(): Command {
  const command = subcommand('ps', 'Lists the processes that hold dma-bufs, and how much they hold.', HELP)
    .addOption(
      new Option('-s, --sort <column>', 'the column to sort by')
        .choices(Object.keys(processKeys))
        .default('rss'),
    )
    .option('-r, --reverse', 'reverse the order')
    .option('-l, --limit <n>', 'show only the first n', whole(0));
  return withFormat(withSource(command)).action(list);
}

async function list(flags: Flags): Promise<void> {
  const taken = await snapshot({ source: flags.source });
  const { buffers, exporters, ...rest } = taken;
  const processes = sortRows(taken.processes, processKeys, flags);
  await printRows(processes, processColumns, flags, { ...rest, processes });
  if (flags.json || flags.csv) return;
  const { total, unaccounted } = taken;
  const unheld =
    unaccounted === undefined || unaccounted.buffers === 0
      ? ''
      : `; of these ${describeTotal(unaccounted, flags)} held by no visible process`;
  print(`total: ${describeTotal(total, flags)}${unheld}`);
  noteUnseen('ps', taken, flags);
}
