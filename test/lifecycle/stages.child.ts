// Reaches stages and ends: node --expose-gc stages.child.js <ending> <stage>...

import assert from 'node:assert/strict';
import { closeSync, writeSync } from 'node:fs';
import type { DmaBufError } from 'dmabuf';
import { takeDescriptors } from '../support/descriptors.js';
import { watch } from '../support/event-loop.js';
import type { StageReport, Standing } from './stage.js';
import { stages } from './stages.js';

const [, , ending, ...names] = process.argv as [string, string, keyof typeof endings, ...string[]];

function settled({ pending = [] }: Standing): Promise<unknown> {
  return Promise.allSettled(pending);
}

const fillers: number[] = [];

function free(): void {
  closeSync(fillers.pop() as number);
}

/** What comes of the stage's operation with no descriptor left: the code of its error. */
async function withoutDescriptors(standing: Standing): Promise<string | undefined> {
  fillers.push(...takeDescriptors());
  try {
    await standing.again(free);
    return undefined;
  } catch (error) {
    return (error as DmaBufError).code ?? (error as Error).stack;
  } finally {
    while (fillers.length > 0) free();
  }
}

const endings = {
  'by itself': (reached: Standing[]): void => {
    let over = false;
    void Promise.all(reached.map(settled)).then(() => {
      over = true;
    });
    // Does not keep the process alive: what is pending has to.
    setTimeout(() => {
      for (const { finish } of reached) finish?.();
    }, 1).unref();
    process.on('exit', () => {
      if (!over) process.exitCode = 9;
    });
  },
  'process.exit()': (): void => process.exit(7),
  'an exception': (): void => {
    setImmediate(() => {
      throw new Error('as expected');
    });
  },
  'a signal': (): void => {
    setInterval(() => {}, 1 << 30);
    writeSync(1, `${JSON.stringify({ name: 'ready', inodes: [] })}\n`);
  },
  'no descriptors': (): void => {},
};

const reached: Standing[] = [];
const watched: ReturnType<typeof watch>[] = [];
for (const name of names) {
  const stage = stages.find((candidate) => candidate.name === name);
  assert.ok(stage, name);
  const standing = await stage.enter();
  watched.push(...(standing.pending ?? []).map(watch));
  const { inodes, size } = standing;
  const report: StageReport = { name, inodes };
  if (size !== undefined) report.size = size;
  if (ending === 'no descriptors') {
    report.outcome = (await withoutDescriptors(standing)) ?? 'done';
    standing.finish?.();
    await settled(standing);
  }
  reached.push(standing);
  // Synchronously: the parent may kill this process at once.
  writeSync(1, `${JSON.stringify(report)}\n`);
}
if (ending !== 'no descriptors') {
  for (const { state, value } of watched) assert.equal(state, 'pending', String(value));
}
endings[ending](reached);
