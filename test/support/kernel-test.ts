import { type TestContext, test } from 'node:test';
import { allocateSync } from 'dmabuf';
import { leavesNoBuffer } from './descriptors.js';
import { madeHere } from './made-here.js';
import { noHeap } from './needs.js';

export type TestBody = (t: TestContext) => void | Promise<void>;

/**
 * A test that needs a dma-buf heap: skipped where there is none, or for the reason in `unless`. Whatever it
 * asserts, it also fails when it leaves a dma-buf, a heap or a mapping behind.
 */
export function kernelTest(name: string, body: TestBody, unless: string | false = false): void {
  madeHere.push(name);
  test(name, { skip: noHeap || unless }, (t) => leavesNoBuffer(async () => body(t)));
}

/** Whether `kernelTest` runs its tests here. */
export const hasKernel: boolean = noHeap === false;

// The package keeps the heap open from the first allocation on: no test leaves it behind.
if (hasKernel) allocateSync(4096).close();
