import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { DmaHeap } from 'dmabuf';
import { openFds } from '../../../support/descriptors.js';
import { collectGarbage } from '../../../support/event-loop.js';
import { kernelTest } from '../../../support/kernel-test.js';
import { mappings } from '../../../support/proc.js';

/** Resident anonymous memory in bytes, after everything that can be collected was. */
async function residentMemory(): Promise<number> {
  // Finalizers run between two turns of the event loop.
  for (let round = 0; round < 3; round++) {
    collectGarbage();
    await new Promise((resolve) => setImmediate(resolve));
  }
  // Less the pages of files: Node's own code, which comes in as it is first used.
  const [, resident, shared] = readFileSync('/proc/self/statm', 'latin1').split(' ').map(Number);
  return ((resident as number) - (shared as number)) * 4096;
}

interface Usage {
  fds: Map<number, string>;
  mappings: string[];
}
const usage = (): Usage => ({ fds: openFds(), mappings: mappings() });

const mebibyte = 1 << 20;

/**
 * What V8 may take for itself when a program starts to allocate in earnest: its young generation grows (up to
 * 16 MiB on a 64-bit machine; 3 MiB were seen) and the optimising compiler's code is added.
 */
const warmUpMargin = 16 * mebibyte;

const windows = 5;
const windowRounds = 20_000;

/**
 * By how much memory may grow in the steadiest of these windows. Growth that belongs to V8 comes in steps, a
 * leak in every window; of anything that a round leaks, 13 bytes are found: the smallest object in JavaScript
 * has 16, a Handle in C++ over 100.
 */
const windowMargin = mebibyte / 4;

function assertGrowth(before: number, after: number, margin: number): void {
  assert.ok(after - before < margin, `resident memory grew from ${before} to ${after}`);
}

kernelTest('100 000 buffers come and go and leave nothing', async () => {
  using heap = DmaHeap.open('system');
  const cycle = (rounds: number): void => {
    for (let round = 0; round < rounds; round++) heap.allocateSync(4096).close();
  };
  cycle(1000);
  const before = usage();
  const memory = [await residentMemory()];
  for (let window = 0; window < windows; window++) {
    cycle(windowRounds);
    memory.push(await residentMemory());
  }
  assert.deepEqual(usage(), before);
  const growth = memory.slice(1).map((after, index) => after - (memory[index] as number));
  assert.ok(Math.min(...growth) < windowMargin, `resident memory grew steadily: ${memory}`);
  assertGrowth(memory[0] as number, memory.at(-1) as number, warmUpMargin);
});

kernelTest('5 000 buffers with a mapping and a CPU access leave nothing', async () => {
  using heap = DmaHeap.open('system');
  const cycle = async (rounds: number): Promise<void> => {
    for (let round = 0; round < rounds; round++) {
      using buffer = heap.allocateSync(4096);
      const mapping = buffer.map();
      buffer.withCpuAccessSync('write', (bytes) => bytes.fill(round));
      assert.equal(mapping.bytes[0], round & 0xff);
      // The address ranges go with the ArrayBuffers, which the collector finalizes between turns.
      if (round % 500 === 0) await residentMemory();
    }
  };
  await cycle(1000);
  const memoryBefore = await residentMemory();
  const before = usage();
  await cycle(5000);
  const memoryAfter = await residentMemory();
  assert.deepEqual(usage(), before);
  // A page that stayed behind in each round would be 20 MiB.
  assertGrowth(memoryBefore, memoryAfter, warmUpMargin);
});

kernelTest('1 000 allocations on the thread pool leave nothing', async () => {
  using heap = DmaHeap.open('system');
  const cycle = async (rounds: number): Promise<void> => {
    for (let round = 0; round < rounds; round += 20) {
      const buffers = await Promise.all(Array.from({ length: 20 }, () => heap.allocate(4096)));
      for (const buffer of buffers) buffer.close();
    }
  };
  await cycle(100);
  const before = usage();
  await cycle(1000);
  assert.deepEqual(usage(), before);
});
