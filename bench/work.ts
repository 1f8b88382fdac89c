// Measures one work of works.ts, in a process of its own. argv: name, rounds, batches. Prints what the C programs
// print (measure.h): a line for each batch, nanoseconds per round.

import type { Work } from './rows.js';
import { works } from './works.js';

const [name, ...numbers] = process.argv.slice(2) as [string, ...string[]];
const [rounds, batches] = numbers.map(Number) as [number, number];
const isWall = process.env.BENCH_CLOCK === 'wall';

async function nanoseconds({ ofOthers }: Work): Promise<number> {
  if (isWall) return Number(process.hrtime.bigint());
  const others = (await ofOthers?.()) ?? 0;
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000 + others;
}

function batch(run: () => unknown): void {
  for (let round = 0; round < rounds; round++) run();
}

async function batchAsync(run: () => unknown): Promise<void> {
  for (let round = 0; round < rounds; round++) await run();
}

const make = works[name];
if (make === undefined) throw new Error(`there is no work named ${name}`);
const work = await make();
const isAsync = work.run() instanceof Promise;

async function measure(): Promise<number> {
  const start = await nanoseconds(work);
  if (isAsync) await batchAsync(work.run);
  else batch(work.run);
  // What it leaves for the event loop, such as finalizers, belongs to it.
  await new Promise((resolve) => setImmediate(resolve));
  return ((await nanoseconds(work)) - start) / rounds;
}

// Code is compiled in steps, each in the background, and the last one comes after tens of thousands of calls, or not: a fixed
// number of them ends in another step from row to row. So warm up for so long, and until four batches in a row were no faster.
const leastWarmUp = 800_000_000; // nanoseconds
let best = Number.POSITIVE_INFINITY;
let spent = 0;
for (let vain = 0; vain < 4 || spent < leastWarmUp; ) {
  const figure = await measure();
  spent += figure * rounds;
  vain = figure < best * 0.98 ? 0 : vain + 1;
  best = Math.min(best, figure);
}
for (let count = 0; count < batches; count++) console.log((await measure()).toFixed(1));
process.exit();
