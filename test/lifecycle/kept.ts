// What the process still refers to when it ends at a stage.

import assert from 'node:assert/strict';
import { allocateSync, type DmaBuf } from 'dmabuf';
import { turns, watch } from '../support/event-loop.js';

export const size = 64 * 1024;

const kept: unknown[] = [];

export function keep<T>(value: T): T {
  kept.push(value);
  return value;
}

export function newBuffer(): DmaBuf {
  return keep(allocateSync(size));
}

/** Asserts that nothing has settled: the stage is what its name says. */
export async function pendingFor<T>(promises: readonly Promise<T>[]): Promise<Promise<T>[]> {
  const watched = promises.map(watch);
  await turns();
  for (const { state, value } of watched) assert.equal(state, 'pending', String(value));
  return [...promises];
}
