// What the scenarios of workers.scenarios.ts and ending.scenarios.ts have their workers do.

import assert from 'node:assert/strict';
import { parentPort, workerData } from 'node:worker_threads';
import { deflate } from 'node:zlib';
import { allocate, allocateSync, type DmaBuf, type DmaBufMapping, DmaHeap } from 'dmabuf';
import { moveThroughStream } from './escape.js';
import {
  assertFilled,
  assertReleased,
  collectUntil,
  mappedRanges,
  replaceByStranger,
  turn,
} from './observe.js';

export type Role =
  | 'end normally'
  | 'call process.exit'
  | 'throw'
  | 'wait'
  | 'leave allocations in flight'
  | 'leave a compression in flight'
  | 'release under a compression'
  | 'lose a descriptor'
  | 'give memory away'
  | 'give memory away and release it'
  | 'give memory away and wait for its end'
  | 'write to what it was given'
  | 'work independently'
  | 'do everything over and over';

const size = 64 * 1024;

/** Stays alive until the parent ends it. */
function stay(): void {
  parentPort?.ref();
}

function say(message: unknown, transferList: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transferList);
}

/** What is open when the worker ends. */
const kept: { close(): void }[] = [];

/** Holds one of everything that can be open. */
function holdAll(): [DmaBuf, DmaBufMapping] {
  const heap = DmaHeap.open('system');
  const buffer = heap.allocateSync(size);
  const copy = buffer.dup();
  kept.push(heap, buffer, copy);
  const mapping = buffer.map();
  mapping.bytes.fill(7);
  buffer.cpuAccessSync('read');
  copy.read(new Uint8Array(10));
  return [buffer, mapping];
}

function closeAll(): void {
  for (const object of kept.splice(0)) object.close();
}

const roles: Record<Role, () => void | Promise<void>> = {
  'end normally': () => {
    holdAll();
  },
  'call process.exit': () => {
    holdAll();
    process.exit(7);
  },
  throw: () => {
    holdAll()[0].withCpuAccessSync('write', () => {
      throw new Error('as expected');
    });
  },
  wait: () => {
    holdAll();
    say('ready');
    stay();
  },
  'leave allocations in flight': () => {
    holdAll();
    for (let i = 0; i < 8; i++) void allocate(8 << 20);
    say('ready');
    stay();
  },
  'leave a compression in flight': () => {
    const buffer = allocateSync(8 << 20);
    kept.push(buffer);
    const { bytes } = buffer.map();
    deflate(bytes, { chunkSize: 16 << 20 }, () => {});
    say('ready');
    stay();
  },
  'release under a compression': () => {
    const buffer = allocateSync(8 << 20);
    deflate(buffer.map().bytes, { chunkSize: 16 << 20 }, () => {});
    buffer.close();
    say('ready');
    stay();
  },
  'lose a descriptor': () => {
    const [buffer] = holdAll();
    const { fd } = buffer;
    replaceByStranger(fd);
    say(fd);
  },
  'give memory away': async () => {
    const [, mapping] = holdAll();
    const bytes = await moveThroughStream(mapping.buffer);
    say(bytes, [bytes.buffer as ArrayBuffer]);
    stay();
  },
  'give memory away and release it': async () => {
    const [buffer, mapping] = holdAll();
    const bytes = await moveThroughStream(mapping.buffer);
    say(bytes, [bytes.buffer as ArrayBuffer]);
    buffer.close();
    stay();
  },
  'give memory away and wait for its end': async () => {
    const [buffer, mapping] = holdAll();
    const bytes = await moveThroughStream(mapping.buffer);
    assert.equal(mappedRanges(buffer.inode), 3);
    say(bytes, [bytes.buffer as ArrayBuffer]);
    // The parent drops it. What stays: the bytes of the CPU access and the mapping behind read().
    await collectUntil(() => mappedRanges(buffer.inode) === 2, 'the range is unmapped');
    buffer.close();
  },
  'write to what it was given': () => {
    const bytes = workerData.bytes as Uint8Array;
    for (let value = 0; ; value++) {
      bytes.fill(value);
      if (value === 1) say('writing');
    }
  },
  'work independently': async () => {
    for (let round = 0; round < 50; round++) {
      const [buffer, mapping] = holdAll();
      const value = 1 + (((workerData.number as number) * 50 + round) % 255);
      mapping.bytes.fill(value);
      const other = await allocate(size);
      other.withCpuAccessSync('write', (bytes) => bytes.set(mapping.bytes));
      buffer.close();
      assertReleased(mapping.bytes);
      assertFilled(other.map().bytes, size, value);
      other.close();
      closeAll();
    }
  },
  'do everything over and over': async () => {
    say('ready');
    const views: unknown[] = [];
    for (let round = 0; ; round++) {
      const buffer = await allocate(size * (1 + (round % 16)));
      kept.push(buffer);
      const mapping = buffer.map();
      deflate(mapping.bytes, () => {});
      views.push(buffer.cpuAccessSync('write').bytes, await moveThroughStream(buffer.map().buffer));
      if (round % 2 === 0) buffer.close();
      if (round % 3 === 0) mapping.unmap();
      if (round % 5 === 0) void allocate(1 << 20).then((late) => kept.push(late));
      if (round % 10 === 0) closeAll();
      if (views.length > 20) views.length = 0;
      await turn();
    }
  },
};

await roles[workerData.role as Role]();
