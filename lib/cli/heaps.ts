import type { Command } from 'commander';
import { textOfHint } from '../errors.js';
import { listDevices, type MemoryDevice } from '../inspect/devices.js';
import { adviceForNoHeaps } from '../memory/device-advice.js';
import { heapFolder } from '../memory/device-files.js';
import { subcommand, withFormat } from './options.js';
import { type Column, type Format, note, printRows } from './output.js';

const HELP = `
KIND is the kind of memory that a heap allocates: system (any pages), cma (physically contiguous), protected (not for the
CPU), shared (with the host of a confidential guest), udmabuf (memory of memfds). Standard error, and the field fix of JSON
and CSV, say how to get access to a device that this user may not use.
Exit status: 0; 1 when this user may use no device, or when the heaps cannot be listed; 2 on errors.

Examples:
  dmabuf heaps
  dmabuf heaps --json | jq -r '.[] | select(.accessible) | .name'`;

/** `dmabuf heaps` */
export function heapsCommand(): Command {
  const description =
    'Lists the dma-buf heaps and /dev/udmabuf, and whether this user may allocate from them.';
  return withFormat(subcommand('heaps', description, HELP), {
    quiet: 'do not say how to get access to devices',
    hasSizes: false,
  }).action(list);
}

const columns: Column<MemoryDevice>[] = [
  { title: 'name', value: ({ name }) => name, shrinks: true },
  { title: 'kind', value: ({ kind }) => kind },
  { title: 'usable', value: ({ accessible, error }) => (accessible ? 'yes' : `no (${error})`) },
  { title: 'path', value: ({ path }) => path, shrinks: true },
  { title: 'aliases', value: ({ aliases }) => aliases?.join(' '), shrinks: true },
];

async function list(format: Format): Promise<void> {
  const devices = listDevices();
  const csvColumns: Column<MemoryDevice>[] = [...columns, { title: 'fix', value: ({ fix }) => fix }];
  await printRows(devices, format.csv ? csvColumns : columns, format, devices);
  const unseen = devices.some(({ path }) => path === heapFolder);
  if (unseen || devices.every(({ accessible }) => !accessible)) process.exitCode = 1;
  if (format.json || format.csv || format.quiet) return;
  if (devices.every(({ kind }) => kind === 'udmabuf'))
    note('heaps', `no heaps: ${textOfHint(adviceForNoHeaps())}`);
  // One rule fixes the access to all heaps.
  const fixes = new Map(devices.map(({ name, fix }) => [fix, name]));
  for (const [fix, name] of fixes) if (fix !== undefined) note('heaps', `${name}: ${fix}`);
}
