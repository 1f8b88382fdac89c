// Inspects a process that swaps a descriptor for one whose fdinfo cannot be read (holds-lock.c), until it is caught so.
// argv: readFdInfo or snapshot, the process, its descriptor. Reports what became of it, and once more; and ends when its
// standard input does.

import { readFdInfo, snapshot } from 'dmabuf/inspect';
import type { DmaBufError } from '../../../lib/errors.js';

const [how, ...numbers] = process.argv.slice(2);
const [pid, fd] = numbers.map(Number) as [number, number];
// Of some ten tries one is such that it is caught.
const mostTries = 100_000;

function outcomeOfReading(): object | undefined {
  try {
    readFdInfo(pid, fd);
    return undefined;
  } catch (error) {
    const { code, syscall, path, hint } = error as DmaBufError;
    return { code, syscall, path, hint };
  }
}

async function outcomeOfSnapshot(): Promise<object | undefined> {
  const { unreadable } = await snapshot({ source: 'procfs' });
  // On a busy machine, others may be slow to answer, too.
  return unreadable.find((one) => one.pid === pid);
}

const look = how === 'readFdInfo' ? outcomeOfReading : outcomeOfSnapshot;
/** What it says when it is caught. */
async function caught(): Promise<object | undefined> {
  for (let tries = 0; tries < mostTries; tries++) {
    const outcome = await look();
    if (outcome !== undefined) return outcome;
  }
  return undefined;
}
process.stdout.write(`${JSON.stringify([await caught(), await caught()])}\n`);
process.stdin.resume();
