import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { fromNode } from '../errors.js';
import { escapeName } from '../escape.js';
import { diff, type ProcessChange, type SnapshotDiff } from '../inspect/diff.js';
import type { BufferUsage, ProcessUsage } from '../inspect/model.js';
import type { SnapshotOptions } from '../inspect/options.js';
import { snapshot } from '../inspect/snapshot.js';
import { bufferColumns, describeGrowth } from './buffers.js';
import { seconds, subcommand, withFormat, withSource } from './options.js';
import { type Column, type Format, formatTable, note, noteUnseen, outputWidth, toCsv } from './output.js';
import { count, formatSize, toJson } from './text.js';

const HELP = `
Compares the dma-bufs of the whole machine before and after. Without a command it waits for --interval seconds, or until
Ctrl-C. The command's own output is not changed; --output keeps the comparison apart from it.
Exit status: the command's own (128 + N when signal N ended it, 127 when it does not exist, 126 when it cannot be run);
without a command 0; 2 on errors.

Examples:
  dmabuf diff -- npm test               does it leave buffers behind?
  dmabuf diff --interval 60             what has grown in a minute?
  dmabuf diff --json --output leak.json -- ./camera --frames 100`;

interface Flags extends Format {
  interval: number;
  output?: string;
  source: NonNullable<SnapshotOptions['source']>;
}

/** `dmabuf diff` */
export function diffCommand(): Command {
  const command = subcommand(
    'diff',
    'Shows which dma-bufs a command, or a period, has left behind, and which processes have grown.',
    HELP,
  )
    .argument('[command...]', 'the program to run, and its arguments')
    .addOption(
      new Option('-i, --interval <seconds>', 'how long to wait without a command')
        .argParser(seconds)
        .default(10_000, '10'),
    )
    .option('-o, --output <file>', 'where to write the comparison (standard output)')
    .passThroughOptions();
  return withFormat(withSource(command)).action(compare);
}

/** A row of the table: what has happened to a buffer. */
interface Row extends BufferUsage {
  change: 'appeared' | 'gone' | 'changed';
}

function rowsOf({ appeared, gone, changed }: SnapshotDiff): Row[] {
  return [
    ...appeared.map((buffer): Row => ({ ...buffer, change: 'appeared' })),
    ...gone.map((buffer): Row => ({ ...buffer, change: 'gone' })),
    ...changed.map(({ after }): Row => ({ ...after, change: 'changed' })),
  ];
}

const growthColumns: Column<ProcessChange>[] = [
  { title: 'pid', kind: 'number', value: ({ pid }) => pid },
  {
    title: 'growth',
    kind: 'size',
    value: ({ growth }) => growth,
    text: ({ growth, fds, mappings }, format) =>
      describeGrowth({ growth, moreFds: fds, moreMappings: mappings }, format),
  },
  { title: 'rss', kind: 'size', value: ({ after }) => after?.rss ?? 0 },
  { title: 'buffers', kind: 'number', value: ({ after }) => after?.buffers ?? 0 },
  { title: 'command', value: ({ command }) => command, shrinks: true },
];

async function render(
  found: SnapshotDiff,
  processes: readonly ProcessUsage[],
  { output, ...format }: Flags,
): Promise<string> {
  if (format.json) return `${toJson(found, 2)}\n`;
  const columns: Column<Row>[] = [
    { title: 'change', value: ({ change }) => change },
    ...bufferColumns(processes),
  ];
  const rows = rowsOf(found);
  if (format.csv) return toCsv(rows, columns);
  const lines: string[] = [];
  // A file is no terminal.
  const width = output === undefined ? outputWidth() : Number.POSITIVE_INFINITY;
  if (rows.length > 0) lines.push(...(await formatTable(rows, columns, format, width)), '');
  const changes = [...found.grown, ...found.shrunk];
  if (changes.length > 0) lines.push(...(await formatTable(changes, growthColumns, format, width)), '');
  for (const { exporter, buffers, size } of found.exporters) {
    lines.push(`exporter ${escapeName(exporter) || '-'}: ${growth(buffers, size, format)}`);
  }
  lines.push(`total: ${growth(found.total.buffers, found.total.size, format)}`);
  return lines.map((line) => `${line}\n`).join('');
}

function growth(buffers: number, size: number, { bytes }: Format): string {
  return `${formatSize(size, bytes, true)} in ${buffers > 0 ? '+' : ''}${count(buffers, 'buffer')}`;
}

/** Waits; Ctrl-C ends the wait earlier. */
async function wait(milliseconds: number): Promise<void> {
  const controller = new AbortController();
  const stop = (): void => controller.abort();
  process.once('SIGINT', stop);
  await sleep(milliseconds, undefined, { signal: controller.signal }).catch(() => {});
  process.off('SIGINT', stop);
}

/** The status of a command that did not start, as a shell has it. */
function statusOfStart(program: string, { code, message }: NodeJS.ErrnoException): number {
  const isMissing = code === 'ENOENT' || program === '';
  note('diff', `${program || "''"}: ${isMissing ? 'there is no such program' : message}`);
  return isMissing ? 127 : 126;
}

/** Runs a command and returns its status. Ctrl-C is for the command alone; other signals are passed on. */
async function run([program = '', ...args]: readonly string[]): Promise<number> {
  let child: ChildProcess;
  try {
    child = spawn(program, args, { stdio: 'inherit' });
  } catch (error) {
    // Most errors of execve(2) are thrown: only a few are told later.
    return statusOfStart(program, error as NodeJS.ErrnoException);
  }
  const ignore = (): void => {};
  const passOn = (signal: NodeJS.Signals): void => void child.kill(signal);
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) process.on(signal, ignore);
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, passOn);
  try {
    return await new Promise((resolve) => {
      child.on('error', (error) => resolve(statusOfStart(program, error)));
      // Not 'close': what the command leaves running may hold its output open.
      child.on('exit', (code, signal) =>
        resolve(signal === null ? (code ?? 0) : 128 + constants.signals[signal]),
      );
    });
  } finally {
    for (const signal of ['SIGINT', 'SIGQUIT'] as const) process.off(signal, ignore);
    for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.off(signal, passOn);
  }
}

async function compare(command: string[], flags: Flags): Promise<void> {
  const { source, interval, output } = flags;
  const before = await snapshot({ source });
  let status = 0;
  if (command.length > 0) status = await run(command);
  else await wait(interval);
  const after = await snapshot({ source });
  const text = await render(diff(before, after), [...before.processes, ...after.processes], flags);
  if (output === undefined) process.stdout.write(text);
  else {
    try {
      writeFileSync(output, text);
    } catch (error) {
      throw fromNode(error);
    }
  }
  noteUnseen('diff', after, flags);
  process.exitCode = status;
}
