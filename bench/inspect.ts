// The guest's side of `npm run bench`: a machine with 5 000 buffers in 50 processes and 300 idle processes with 50
// descriptors each, inspected by the C program and by snapshot(). argv: the C program.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type SnapshotSource, snapshot } from 'dmabuf/inspect';
import type { Pair } from './guest.js';

const program = process.argv[2] as string;
const holders = spawn(program, ['hold', '50', '100', '300', '50'], { stdio: ['pipe', 'pipe', 'inherit'] });
await once(holders.stdout, 'data');

const [buffers, holdings, c] = execFileSync(program, ['scan', '5'], { encoding: 'utf8' })
  .split('\t')
  .map(Number) as [number, number, number];

async function measure(source: SnapshotSource): Promise<number> {
  for (let warmUp = 0; warmUp < 10; warmUp++) {
    const { total, processes } = await snapshot({ source });
    const held = processes.reduce((sum, process) => sum + process.buffers, 0);
    if (total.buffers !== buffers || held !== holdings) {
      throw new Error(
        `C sees ${buffers} buffers held ${holdings} times; ${source} ${total.buffers} and ${held}`,
      );
    }
  }
  // Enough rounds to include garbage collection.
  const rounds = 20;
  const start = process.cpuUsage();
  for (let round = 0; round < rounds; round++) await snapshot({ source });
  const { user, system } = process.cpuUsage(start);
  return ((user + system) * 1000) / rounds;
}

const procfs = await measure('procfs');
const pairs: Pair[] = [{ row: 'procfs', c, ours: procfs }];
try {
  pairs.push({ row: 'bpf', c: procfs, ours: await measure('bpf') });
} catch (error) {
  if ((error as { code?: string }).code !== 'ERR_DMABUF_UNSUPPORTED_KERNEL') throw error;
}
holders.kill('SIGKILL');
console.log(JSON.stringify(pairs));
