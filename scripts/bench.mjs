// npm run bench [-- --json] [-- --kernel stable]: ours against C, in one guest, counted in instructions.

import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { parseArgs } from 'node:util';
import { root, setup } from './setup.mjs';

const { values: options } = parseArgs({
  options: { json: { type: 'boolean' }, kernel: { type: 'string', default: 'newest' } },
});

// Rows are measured by bench/bench.c and bench/guest.ts, the last two by bench/inspect.c and bench/inspect.ts. `bar`: the most that ours may cost, as a ratio.
const rows = [
  { row: 'sync', label: 'SYNC START + END', bar: 1.8 },
  { row: 'allocate4k', label: 'allocate + close, 4 KiB', bar: 1.25 },
  { row: 'allocate1m', label: 'allocate + close, 1 MiB' },
  { row: 'info', label: 'info()', bar: 1.6 },
  { row: 'isReady', label: 'isReady()', bar: 2.5 },
  { row: 'syncFileInfo', label: 'SyncFile.info(), one fence', bar: 2 },
  { row: 'message', label: 'a message with a buffer: send, receive, close it', bar: 2.5 },
  { row: 'streamMessage', label: 'the same over a stream / over a channel', bar: 1.3 },
  { row: 'stream4k', label: '4 KiB from process to process: FdStream / net.Socket', bar: 1.25 },
  { row: 'stream64k', label: 'the same with 64 KiB', bar: 1.25 },
  { row: 'pool', label: 'pool: acquire + release / C: allocate + close, 1 MiB', bar: 0.1 },
  { row: 'map64k', label: 'map + unmap, 64 KiB' },
  { row: 'read4k', label: 'read(), 4 KiB' },
  { row: 'read1m', label: 'read(), 1 MiB', bar: 1.1 },
  { row: 'write4k', label: 'write(), 4 KiB' },
  { row: 'write1m', label: 'write(), 1 MiB', bar: 1.1 },
  { row: 'sum1m', label: 'sum 1 MiB in JavaScript: mapping / ordinary ArrayBuffer', bar: 1.02 },
  { row: 'import', label: "a script with import 'dmabuf' / node -e 0", bar: 1.15 },
  { row: 'ls', label: 'dmabuf ls / node -e 0', bar: 1.5 },
  { row: 'procfs', label: 'snapshot() from procfs: 5 000 buffers, 350 processes', bar: 1.5 },
  { row: 'bpf', label: 'snapshot() from BPF / from procfs', bar: 0.2 },
];

function buildProgram(name) {
  const program = join(root, 'build/bench', name);
  mkdirSync(join(root, 'build/bench'), { recursive: true });
  const args = ['-O2', '-Wall', '-Wextra', '-Werror', '-o', program, join(root, 'bench', `${name}.c`)];
  const { status, error } = spawnSync('gcc', args, { stdio: 'inherit' });
  if (status !== 0)
    throw new Error(`the C program could not be built: ${error?.message ?? `gcc: ${status}`}`);
  return program;
}

/** A project in which the package is as npm installs it, but with the addon that was built here. */
function installPackage() {
  const project = join(root, 'build/bench/project');
  const modules = join(project, 'node_modules');
  const binaries = join(modules, `dmabuf/prebuilds/linux-${process.arch}`);
  rmSync(project, { recursive: true, force: true });
  mkdirSync(binaries, { recursive: true });
  mkdirSync(join(modules, '.bin'));
  for (const file of ['package.json', 'dist/package']) {
    cpSync(join(root, file), join(modules, 'dmabuf', file), { recursive: true });
  }
  for (const libc of ['glibc', 'musl']) {
    copyFileSync(join(root, 'build/Release/dmabuf.node'), join(binaries, `dmabuf.${libc}.node`));
  }
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  for (const name of Object.keys(dependencies))
    symlinkSync(join(root, 'node_modules', name), join(modules, name));
  symlinkSync('../dmabuf/dist/package/cli.js', join(modules, '.bin/dmabuf'));
  writeFileSync(join(project, 'import.mjs'), "import 'dmabuf';\n");
  return project;
}

setup();
const { runInVm } = await import('dmabuf/vm');

/** The pairs that a script of dist/bench prints in a guest; it gets the path of a C program. */
async function measure(script, program, ...args) {
  let output = '';
  const stdout = new Writable({
    write(chunk, _encoding, done) {
      output += chunk;
      done();
    },
  });
  const { exitCode } = await runInVm({
    command: [process.execPath, join(root, 'dist/bench', script), buildProgram(program), ...args],
    kernel: options.kernel,
    icount: true,
    timeout: 1_200_000,
    stdout,
    progress: (text) => process.stderr.write(`bench: ${text}\n`),
  });
  if (exitCode !== 0) throw new Error(`the benchmark ended with ${exitCode}`);
  return JSON.parse(output);
}

process.stderr.write('bench: measuring in two guests, one instruction = one nanosecond; about two minutes\n');
const pairs = await Promise.all([
  measure('guest.js', 'bench', installPackage()),
  measure('inspect.js', 'inspect'),
]);

const measured = new Map(pairs.flat().map((pair) => [pair.row, pair]));
// The iterator is there since Linux 6.18.
const results = rows
  .filter(({ row }) => measured.has(row))
  .map(({ row, label, bar }) => {
    const { c, ours } = measured.get(row);
    return { row, label, c: Math.round(c), ours: Math.round(ours), ratio: ours / c, ...(bar && { bar }) };
  });
const missed = results.filter(({ ratio, bar }) => bar !== undefined && ratio > bar);
if (options.json) {
  console.log(JSON.stringify(results, null, 2));
} else {
  const { formatTable } = await import('../dist/lib/cli/output.js');
  const columns = [
    { title: 'instructions per round', value: ({ label }) => label },
    { title: 'C (or as named)', kind: 'number', text: ({ c }) => c.toLocaleString('en') },
    { title: 'dmabuf', kind: 'number', text: ({ ours }) => ours.toLocaleString('en') },
    { title: 'ratio', kind: 'number', text: ({ ratio }) => ratio.toFixed(3) },
    { title: 'at most', kind: 'number', value: ({ bar }) => bar },
  ];
  console.log((await formatTable(results, columns, {}, Number.POSITIVE_INFINITY)).join('\n'));
}
for (const { label, ratio, bar } of missed) {
  console.error(`bench: ${label}: ${ratio.toFixed(3)} is above the bar of ${bar}`);
}
if (missed.length > 0) process.exitCode = 1;
