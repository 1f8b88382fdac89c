// npm run bench [-- options] [rows]: ours against C and others, counted in instructions in a guest, or in real time here.

import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { PassThrough } from 'node:stream';
import { parseArgs } from 'node:util';
import { root, setup } from './setup.mjs';

const help = `npm run bench                     every row, in a guest whose time is counted in instructions: one is a nanosecond
npm run bench -- pool frame       the rows whose name contains one of these
npm run bench -- --short          the rows that say most, in fewer batches
npm run bench -- --wall           in real time on this machine, for whatever devices it has
npm run bench -- --kernel stable  on another kernel
npm run bench -- --json           the figures as JSON
npm run bench -- --record         keeps the figures, in bench/figures.json

It fails where a ratio is above its bar, or more than 5 % above the recorded one.`;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean' },
    kernel: { type: 'string', default: 'newest' },
    short: { type: 'boolean' },
    wall: { type: 'boolean' },
    record: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
});

if (options.help) {
  console.log(help);
  process.exit();
}
if (options.wall && options.record) throw new Error('only instructions are recorded, no real time');

const folder = join(root, 'build/bench');
const recordFile = join(root, 'bench/figures.json');
/** How much more than the recorded ratio is too much. */
const tolerance = 1.05;

function buildProgram(name) {
  const args = [
    '-O2',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-o',
    join(folder, name),
    join(root, `bench/${name}.c`),
  ];
  const { status, error } = spawnSync('gcc', args, { stdio: 'inherit' });
  if (status !== 0)
    throw new Error(`the C program could not be built: ${error?.message ?? `gcc: ${status}`}`);
}

/** A project in which the package is as npm installs it, but with the addon that was built here. */
function installPackage() {
  const project = join(folder, 'project');
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
  writeFileSync(join(project, 'empty.mjs'), '');
  writeFileSync(join(project, 'import.mjs'), "import 'dmabuf';\n");
  return project;
}

setup();
mkdirSync(folder, { recursive: true });
for (const name of ['bench', 'inspect']) buildProgram(name);
const { rows: table } = await import('../dist/bench/rows.js');
const wanted = table.filter(
  ({ name, isShort }) =>
    (!options.short || isShort) &&
    (positionals.length === 0 || positionals.some((part) => name.includes(part))),
);
const clock = options.wall ? 'wall' : 'cpu';
const batches = options.short ? '3' : '7';
const names = wanted.map(({ name }) => name);
const command = [join(root, 'dist/bench/guest.js'), folder, installPackage(), clock, batches, ...names];
const say = (text) => process.stderr.write(`bench: ${text}\n`);

const stdout = new PassThrough();
const measured = new Map();
createInterface({ input: stdout }).on('line', (line) => {
  const pair = JSON.parse(line);
  measured.set(pair.name, pair);
  say(
    pair.error ? `${pair.name} could not be measured: ${pair.error}` : `${pair.name}: ${pair.ours.join(' ')}`,
  );
});

async function runHere() {
  const child = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'inherit'] });
  child.stdout.pipe(stdout);
  return await new Promise((resolve) => child.once('close', resolve));
}

async function runInGuest() {
  const { runInVm } = await import('dmabuf/vm');
  const { exitCode } = await runInVm({
    command: [process.execPath, ...command],
    kernel: options.kernel,
    icount: true,
    timeout: 2 * 3_600_000,
    stdout,
    progress: say,
  });
  return exitCode;
}

const exitCode = await (options.wall ? runHere() : runInGuest());
if (exitCode !== 0) throw new Error(`the benchmark ended with ${exitCode}`);

const median = (figures) => figures.toSorted((a, b) => a - b)[Math.floor(figures.length / 2)];
/** How far the batches are apart, as a part of their median. */
const spreadOf = (figures) => (Math.max(...figures) - Math.min(...figures)) / median(figures);

const results = wanted
  .filter(({ name }) => measured.get(name)?.ours)
  .map(({ name, label, bar }) => {
    const pair = measured.get(name);
    const [base, ours] = [median(pair.base), median(pair.ours)].map(Math.round);
    const spread = Math.max(spreadOf(pair.base), spreadOf(pair.ours));
    return { name, label, base, ours, ratio: ours / base, spread, ...(options.wall ? {} : { bar }) };
  });

const recorded = options.wall ? {} : JSON.parse(readFileSync(recordFile, 'utf8'));
if (options.record) {
  for (const { name, base, ours } of results) recorded[name] = { base, ours };
  const kept = table.map(({ name }) => [name, recorded[name]]).filter(([, figures]) => figures);
  writeFileSync(recordFile, `${JSON.stringify(Object.fromEntries(kept), null, 2)}\n`);
}

if (options.json) {
  console.log(JSON.stringify(results, null, 2));
} else {
  const { formatTable } = await import('../dist/lib/cli/output.js');
  const number = (title, text) => ({ title, kind: 'number', text });
  const columns = [
    { title: options.wall ? 'ns' : 'instructions', value: ({ label }) => label },
    number('C, or as named', ({ base }) => base.toLocaleString('en')),
    number('dmabuf', ({ ours }) => ours.toLocaleString('en')),
    number('difference', ({ base, ours }) => (ours - base).toLocaleString('en')),
    number('ratio', ({ ratio }) => ratio.toFixed(3)),
    number('at most', ({ bar }) => bar?.toString() ?? '-'),
    number('spread', ({ spread }) => `${(spread * 100).toFixed(1)} %`),
  ];
  console.log((await formatTable(results, columns, {}, Number.POSITIVE_INFINITY)).join('\n'));
}

// What this machine has no device for is left out of real time alone.
let failed = !options.wall && results.length < wanted.length;
for (const { name, label, ratio, bar } of options.wall ? [] : results) {
  if (ratio > bar) {
    console.error(`bench: ${label}: ${ratio.toFixed(3)} is above the bar of ${bar}`);
    failed = true;
  }
  const known = recorded[name] && recorded[name].ours / recorded[name].base;
  if (ratio > known * tolerance) {
    console.error(
      `bench: ${label}: ${ratio.toFixed(3)} is more than 5 % above the recorded ${known.toFixed(3)}`,
    );
    failed = true;
  }
}
if (failed) process.exitCode = 1;
