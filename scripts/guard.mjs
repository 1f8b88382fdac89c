// npm run guard [-- options]: what the memory guard decides beside contiguous memory, and what the kernel would have done.

import { closeSync, ftruncateSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { PassThrough } from 'node:stream';
import { parseArgs } from 'node:util';
import { root, setup } from './setup.mjs';

const help = `npm run guard                    200 situations of pressure in a guest with contiguous memory (programs' memory, page
                                 cache, memory in pieces): the guard's decisions, and the kernel's; a table at the end
npm run guard -- --count 20      so many situations
npm run guard -- --seed 7        others; the same seed is the same situations
npm run guard -- --json          every decision as JSON`;

const { values: options } = parseArgs({
  options: {
    count: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
});

if (options.help) {
  console.log(help);
  process.exit();
}

/** MiB of the guest's memory, and what the guard leaves of it to the programs that run (docs/sources.md). */
const memory = 512;
const reserve = Math.min(memory / 64, 32);

/** What a decision was, and whether it may be. */
function judge({ size, guard, message, kernel, reclaimed }) {
  if (guard === 'served') return ['allowed, and served', true];
  if (guard === 'ENOMEM') return ['left to the kernel, which said ENOMEM', true];
  if (guard === 'killed') return ['allowed, and the kernel has killed', false];
  if (guard !== 'ERR_DMABUF_MEMORY_GUARD') return [`allowed, and failed with ${guard}`, false];
  if (kernel === 'killed') return ['refused, where the kernel kills', true];
  if (kernel !== 'served') return [`refused, where the kernel says ${kernel}`, true];
  if (reclaimed) return ['refused, where the kernel takes memory from others first', true];
  const left = Number(/ and (\d+) are available/.exec(message)?.[1]) / 2 ** 20;
  if (size <= left + reserve) return ['refused, for what is left to programs', true];
  return ['refused, where the kernel serves at once', false];
}

setup();
const folder = join(root, 'build/guard');
mkdirSync(folder, { recursive: true });
const cacheFile = join(folder, 'large');
const file = openSync(cacheFile, 'w');
ftruncateSync(file, memory * 2 ** 20);
closeSync(file);

const { runInVm } = await import('dmabuf/vm');
const stdout = new PassThrough();
const decisions = [];
createInterface({ input: stdout }).on('line', (line) => {
  const decision = JSON.parse(line);
  const [name, isRight] = judge(decision);
  decisions.push({ ...decision, name, isRight });
  const { from, size, anonymous, cache, pieces } = decision;
  process.stderr.write(
    `guard: ${size} MiB of ${from} beside ${anonymous} of programs, ${cache} of cache, ${pieces} pieces: ${name}\n`,
  );
});
try {
  const { exitCode } = await runInVm({
    command: [process.execPath, '--expose-gc', 'dist/bench/guard.js', options.count, options.seed, cacheFile],
    cwd: root,
    modules: ['cma_heap'],
    kernelArguments: [`cma=${memory / 4}M`],
    memory,
    timeout: 3 * 3_600_000,
    stdout,
    progress: (text) => process.stderr.write(`guard: ${text}\n`),
  });
  process.exitCode = exitCode;
} finally {
  rmSync(folder, { recursive: true });
}

if (options.json) {
  console.log(JSON.stringify(decisions, null, 2));
} else {
  const { formatTable } = await import('../dist/lib/cli/output.js');
  const names = [...new Set(decisions.map((one) => one.name))];
  const of = (name, heap) => decisions.filter((one) => one.name === name && one.from === heap).length;
  const columns = [
    { title: 'decision', value: (name) => name },
    { title: 'cma', kind: 'number', value: (name) => of(name, 'cma') },
    { title: 'system', kind: 'number', value: (name) => of(name, 'system') },
    {
      title: 'right',
      value: (name) => (decisions.find((one) => one.name === name).isRight ? 'yes' : 'WRONG'),
    },
  ];
  console.log((await formatTable(names, columns, {}, Number.POSITIVE_INFINITY)).join('\n'));
}

const wrong = decisions.filter(({ isRight }) => !isRight);
for (const decision of wrong) console.error(`guard: WRONG: ${JSON.stringify(decision)}`);
if (wrong.length > 0 || decisions.length !== Number(options.count)) process.exitCode = 1;
