// The guest's side of `npm run bench`: measures rows, each side of each in processes of its own, and prints each row as a line
// of JSON. argv: the folder of the C programs, a project that has the package installed, the clock (`cpu` or `wall`), how many
// batches, and the names of the rows.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Measured, type Row, rows } from './rows.js';

/** What was measured in each batch: nanoseconds per round (instructions under -icount), of what a row compares. */
export interface Pair {
  name: string;
  base: number[];
  ours: number[];
}

/** A row that could not be measured here. */
export interface Failure {
  name: string;
  error: string;
}

const [programs, project, clock, batchCount, ...wanted] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  ...string[],
];
const batches = Number(batchCount);

const dmabuf = join(project, 'node_modules/.bin/dmabuf');
const commands: Readonly<Record<string, string[]>> = {
  nothing: [process.execPath, '-e', '0'],
  empty: [process.execPath, join(project, 'empty.mjs')],
  import: [process.execPath, join(project, 'import.mjs')],
  ls: [process.execPath, dmabuf, 'ls'],
  ps: [process.execPath, dmabuf, 'ps'],
  lsof: ['lsof', '-nP'],
};

const besides = (file: string): string => fileURLToPath(new URL(file, import.meta.url));
/** Python's files are not copied to dist. */
const peers = besides('../../bench/peers.py');

function commandFor(measured: Measured, rounds: number): string[] {
  const [kind, name] = measured.split(' ') as [string, string];
  const numbers = [String(rounds), batchCount];
  switch (kind) {
    case 'c':
      return [join(programs, 'bench'), name, ...numbers];
    case 'scan':
      return [join(programs, 'inspect'), name, ...numbers];
    case 'js':
      return [process.execPath, besides('work.js'), name, ...numbers];
    case 'python':
      return ['python3', peers, name, ...numbers];
    default:
      // The first run reads files that are not cached yet.
      return [join(programs, 'bench'), 'spawn', String(batches + 1), ...(commands[name] as string[])];
  }
}

const { PATH, HOME } = process.env;
const env = { PATH, HOME, BENCH_CLOCK: clock };

function run(measured: Measured, rounds: number): number[] {
  const [command, ...args] = commandFor(measured, rounds) as [string, ...string[]];
  const output = execFileSync(command, args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'pipe'] });
  return output.trimEnd().split('\n').map(Number).slice(-batches);
}

/** What several rows compare is measured once. */
const measuredAlready = new Map<string, number[]>();

function measure(measured: Measured, { rounds, isCrowded }: Row): number[] {
  const key = `${measured} ${isCrowded}`;
  const figures = measuredAlready.get(key) ?? run(measured, rounds);
  measuredAlready.set(key, figures);
  return figures;
}

function report(row: Row): Pair | Failure {
  const { name } = row;
  try {
    return { name, base: measure(row.base, row), ours: measure(row.ours, row) };
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    return { name, error: (stderr || message).trim() };
  }
}

/** 5 000 buffers in 50 processes, and 300 idle processes with 50 descriptors each. */
async function gatherCrowd(): Promise<ChildProcess> {
  const args = ['hold', '50', '100', '300', '50'];
  const holders = spawn(join(programs, 'inspect'), args, { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(holders.stdout, 'data');
  return holders;
}

// What allocate() finds in the folder of the heaps it keeps only when the folder was not changed for some seconds. Under
// -icount this takes no time.
await setTimeout(4_000);

let crowd: ChildProcess | undefined;
const known = wanted.map((name) => rows.find((row) => row.name === name) as Row);
// The crowd comes last: it would be in the way of all others.
for (const row of [...known.filter((row) => !row.isCrowded), ...known.filter((row) => row.isCrowded)]) {
  if (row.isCrowded) crowd ??= await gatherCrowd();
  console.log(JSON.stringify(report(row)));
}
crowd?.kill('SIGKILL');
