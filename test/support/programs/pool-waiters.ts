// Waits for a pool's only buffer with nothing else pending, and has the wait end in each of the ways that there are.

import { setTimeout as turn } from 'node:timers/promises';
import { DmaBufPool } from 'dmabuf';
import { report } from '../programs.js';

/** By what ended the wait: what became of it. */
export type PoolWaitersReport = Record<'release' | 'signal' | 'close', string>;

/** Some turns of the event loop, which they do not keep alive: without the wait the process ends here. */
async function turns(): Promise<void> {
  for (let count = 0; count < 10; count++) await turn(1, undefined, { ref: false });
}

async function outcome(end: 'release' | 'signal' | 'close'): Promise<string> {
  const pool = new DmaBufPool(4096, { max: 1 });
  const loan = await pool.acquire();
  const abort = new AbortController();
  const waiting = pool.acquire({ signal: abort.signal }).then(
    (next) => {
      next.release();
      return 'served';
    },
    (error: Error & { code?: string }) => error.code ?? error.name,
  );
  await turns();
  if (end === 'release') loan.release();
  else if (end === 'signal') abort.abort(new RangeError('given up'));
  else pool.close();
  const became = await waiting;
  loan.release();
  pool.close();
  return became;
}

report({
  release: await outcome('release'),
  signal: await outcome('signal'),
  close: await outcome('close'),
} satisfies PoolWaitersReport);
