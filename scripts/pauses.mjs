// npm run pauses [-- options] [attacks]: how long the event loop stands still while peers send files that block
// every process that closes them.

import { createInterface } from 'node:readline';
import { PassThrough } from 'node:stream';
import { parseArgs } from 'node:util';
import { root, setup } from './setup.mjs';

const help = `npm run pauses                    every attack, by one peer and by 64, in a guest whose time is counted in
                                  instructions: one is a nanosecond; a table at the end. Takes half an hour
npm run pauses -- --kernel stable on another kernel
npm run pauses -- --json          the figures as JSON
npm run pauses -- queue           the attacks whose name contains one of these`;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kernel: { type: 'string', default: 'newest' },
    json: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
});

if (options.help) {
  console.log(help);
  process.exit();
}

/** The most that an attack may add to the longest pause of a process that nobody attacks, in milliseconds. */
const bar = 50;

const files = {
  null: '/dev/null',
  socket: 'TCP sockets that linger',
  fuse: 'files of a silent file system',
  devices: 'files of many file systems',
};

setup();
const { runInVm } = await import('dmabuf/vm');
const stdout = new PassThrough();
const pauses = [];
createInterface({ input: stdout }).on('line', (line) => {
  const pause = JSON.parse(line);
  pauses.push(pause);
  process.stderr.write(
    `pauses: ${pause.name}, ${files[pause.files] ?? 'no files'}, ${pause.peers}: ${pause.pause} ms\n`,
  );
});
const { exitCode } = await runInVm({
  command: [process.execPath, 'dist/bench/pauses.js', ...positionals],
  cwd: root,
  kernel: options.kernel,
  modules: ['fuse', 'vgem'],
  icount: true,
  timeout: 3 * 3_600_000,
  stdout,
  progress: (text) => process.stderr.write(`pauses: ${text}\n`),
});
process.exitCode = exitCode;

const key = ({ name, files }) => `${name}|${files}`;
const rows = [...new Set(pauses.map(key))].map((wanted) => {
  const [one, many] = [1, 64].map((peers) =>
    pauses.find((pause) => key(pause) === wanted && pause.peers === peers),
  );
  return {
    name: one.name,
    files: one.files,
    descriptors: one.descriptors,
    one: one.pause,
    many: many?.pause,
  };
});
if (options.json) {
  console.log(JSON.stringify(rows, null, 2));
} else {
  const { formatTable } = await import('../dist/lib/cli/output.js');
  const columns = [
    { title: 'longest pause of the event loop, in ms', value: ({ name }) => name },
    { title: 'files', value: ({ files: kind }) => files[kind] },
    { title: 'of each peer', kind: 'number', value: ({ descriptors }) => descriptors },
    { title: '1 peer', kind: 'number', text: ({ one }) => one.toFixed(1) },
    { title: '64 peers', kind: 'number', text: ({ many }) => many?.toFixed(1) ?? '-' },
  ];
  console.log((await formatTable(rows, columns, {}, Number.POSITIVE_INFINITY)).join('\n'));
}

const still = rows.find(({ name }) => name === 'nothing');
for (const { name, files: kind, one, many } of rows) {
  const most = Math.max(one, many ?? 0) - Math.max(still?.one ?? 0, still?.many ?? 0);
  // What is harmless is there for comparison.
  if (kind === 'null' || most <= bar) continue;
  console.error(
    `pauses: ${name}, ${files[kind]}: ${most.toFixed(1)} ms more than with nothing, above ${bar}`,
  );
  process.exitCode = 1;
}
