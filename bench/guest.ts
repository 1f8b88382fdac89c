// The guest's side of `npm run bench`: runs the C program and the same work in JavaScript, and prints the pairs
// as JSON. argv: the C program, and a project that has the package installed.

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { type ChannelMessage, type DmaBuf, DmaBufChannel, DmaBufPool, DmaHeap, FdStream } from 'dmabuf';
import { flow } from './flow.js';

/** CPU time per round in nanoseconds (instructions under -icount): the C program's and ours. */
export interface Pair {
  row: string;
  c: number;
  ours: number;
}

const [program, project] = process.argv.slice(2) as [string, string];

function runProgram(...args: string[]): Map<string, number> {
  const output = execFileSync(program, args, { encoding: 'utf8' });
  const lines = output.trimEnd().split('\n');
  return new Map(
    lines.map((line) => line.split('\t')).map(([name, value]) => [name as string, Number(value)]),
  );
}

function cpuTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

function batch(rounds: number, work: () => void): void {
  for (let round = 0; round < rounds; round++) work();
}

/** Runs batches until the optimising compiler is done with the code, then measures one. */
function measure(rounds: number, work: () => void): number {
  for (let warmUp = 0; warmUp < 5; warmUp++) batch(rounds, work);
  const start = cpuTime();
  batch(rounds, work);
  return (cpuTime() - start) / rounds;
}

function sum(bytes: Uint8Array): number {
  let total = 0;
  for (let index = 0; index < bytes.length; index++) total += bytes[index] as number;
  return total;
}

const large = 1 << 20;
/** The same for work that is asynchronous. */
async function measureAsync(rounds: number, work: () => Promise<void>): Promise<number> {
  const batchAsync = async (): Promise<void> => {
    for (let round = 0; round < rounds; round++) await work();
  };
  for (let warmUp = 0; warmUp < 5; warmUp++) await batchAsync();
  const start = cpuTime();
  await batchAsync();
  return (cpuTime() - start) / rounds;
}

using heap = DmaHeap.open('system');
using buffer = heap.allocateSync(large, { name: 'bench' });
using fences = buffer.exportSyncFile('read-write');
using pool = new DmaBufPool(large, { from: heap });
const small = new Uint8Array(4096).fill(1);
const memory = new Uint8Array(large).fill(1);

const ours: [string, number][] = [
  ['sync', measure(20_000, () => buffer.cpuAccessSync('read-write').end())],
  ['allocate4k', measure(20_000, () => heap.allocateSync(4096).close())],
  ['allocate1m', measure(100, () => heap.allocateSync(large).close())],
  ['info', measure(4_000, () => void buffer.info())],
  ['isReady', measure(20_000, () => void buffer.isReady('write'))],
  ['syncFileInfo', measure(10_000, () => void fences.info())],
  ['map64k', measure(3_000, () => buffer.map({ length: 64 << 10 }).unmap())],
  ['read4k', measure(20_000, () => void buffer.read(small))],
  ['read1m', measure(50, () => void buffer.read(memory))],
  ['write4k', measure(20_000, () => void buffer.write(small))],
  ['write1m', measure(50, () => void buffer.write(memory))],
];

const c = runProgram('cpu');
const pairs: Pair[] = ours.map(([row, value]) => ({ row, c: c.get(row) as number, ours: value }));

pairs.push({
  row: 'pool',
  c: c.get('allocate1m') as number,
  ours: await measureAsync(5_000, async () => (await pool.acquire()).release()),
});

const frame = new TextEncoder().encode('frame of 16 byte');

async function messageOver([here, there]:
  | [DmaBufChannel, DmaBufChannel]
  | [FdStream, FdStream]): Promise<number> {
  const cost = await measureAsync(10_000, async () => {
    await here.send(frame, [buffer]);
    const { handles } = (await there.receive()) as ChannelMessage;
    (handles[0] as DmaBuf).close();
  });
  here.close();
  there.close();
  return cost;
}

const message = await messageOver(DmaBufChannel.pair());
pairs.push({ row: 'message', c: c.get('message') as number, ours: message });
pairs.push({ row: 'streamMessage', c: message, ours: await messageOver(FdStream.pair()) });

/** The shorter of two runs, each of which begins with the compilation of what it runs. */
async function flowOf(row: string, bytes: number, chunks: number): Promise<Pair> {
  const runs = { FdStream: Number.POSITIVE_INFINITY, 'net.Socket': Number.POSITIVE_INFINITY };
  for (let run = 0; run < 2; run++) {
    for (const kind of ['FdStream', 'net.Socket'] as const) {
      runs[kind] = Math.min(runs[kind], await flow(kind, bytes, chunks));
    }
  }
  return { row, c: runs['net.Socket'], ours: runs.FdStream };
}
pairs.push(await flowOf('stream4k', 4096, 8000), await flowOf('stream64k', 65_536, 1500));

// Not against C, but against the same JavaScript on ordinary memory, and against Node.js that does nothing.
const mapping = buffer.map();
pairs.push({
  row: 'sum1m',
  c: measure(20, () => void sum(memory)),
  ours: measure(20, () => void sum(mapping.bytes)),
});

/** The shortest of a few runs: other influences, mainly files that are not cached yet, only make a start longer. */
function leastOf(...args: string[]): number {
  const runs = Array.from({ length: 4 }, () => runProgram('spawn', process.execPath, ...args).get('spawn'));
  return Math.min(...(runs as number[]));
}
const nothing = leastOf('-e', '0');
pairs.push({ row: 'import', c: nothing, ours: leastOf(join(project, 'import.mjs')) });
pairs.push({ row: 'ls', c: nothing, ours: leastOf(join(project, 'node_modules/.bin/dmabuf'), 'ls') });

console.log(JSON.stringify(pairs));
