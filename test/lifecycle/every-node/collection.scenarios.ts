import assert from 'node:assert/strict';
import { allocate, allocateSync, type DmaBuf, type DmaBufMapping, DmaHeap } from 'dmabuf';
import { filled } from '../../support/buffers.js';
import { collectGarbage, collectUntil, turn, turns } from '../../support/event-loop.js';
import {
  assertFilled,
  assertReleased,
  bufferFds,
  heapFds,
  kernelHas,
  mappedRanges,
  noKernelList,
  tryOnReleased,
} from '../../support/observe.js';
import { moveThroughStream, noTransfer, transfer } from '../escape.js';
import type { Scenario } from '../scenario.js';

const size = 64 * 1024;

/** Has nobody left who refers to what `make` made, but for what it returns. */
function forget<T>(make: () => T): T {
  return make();
}

/** Numbers that look random and are the same in every run. */
function* pseudoRandom(seed: number): Generator<number, never> {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    yield state >>> 8;
  }
}

export const scenarios: readonly Scenario[] = [
  {
    name: 'a closed buffer is collected without a word',
    async run() {
      forget(() => {
        for (let i = 0; i < 50; i++) filled()[0].close();
        DmaHeap.open('system').close();
      });
      await collectUntil(() => mappedRanges() === 0, 'nothing mapped');
    },
  },
  {
    name: 'a mapping alone keeps its buffer open',
    async run() {
      const mappings = forget(() => [filled()[1]]);
      for (let i = 0; i < 5; i++) {
        collectGarbage();
        await turn();
      }
      assert.equal(bufferFds(), 1);
      assertFilled((mappings[0] as DmaBufMapping).bytes, size, 7);
      mappings.pop()?.unmap();
      await collectUntil(() => bufferFds() === 0, 'the descriptor is closed');
    },
  },
  {
    name: 'buffers collected without close() have their descriptors closed and warn once',
    async run() {
      forget(() => {
        for (let i = 0; i < 50; i++) filled();
      });
      await collectUntil(() => bufferFds() === 0, 'descriptors are closed');
      await collectUntil(() => mappedRanges() === 0, 'ranges are unmapped');
    },
  },
  {
    name: 'a heap collected without close() has its descriptor closed and warns once',
    async run() {
      forget(() => {
        for (let i = 0; i < 3; i++) DmaHeap.open('system');
      });
      await collectUntil(() => heapFds() === 0, 'descriptors are closed');
    },
  },
  {
    name: 'bytes that are still held keep their contents when buffer and mapping are collected',
    async run() {
      const [bytes, inode] = forget(() => {
        const [buffer, mapping] = filled();
        return [[mapping.bytes.subarray(4096)], buffer.inode] as [Uint8Array[], number];
      });
      await collectUntil(() => bufferFds() === 0, 'the descriptor is closed');
      await turns();
      assertFilled(bytes[0] as Uint8Array, size - 4096, 7);
      bytes[0]?.fill(8);
      assert.equal(mappedRanges(inode), 1);
      bytes.length = 0;
      await collectUntil(() => mappedRanges(inode) === 0, 'the range is unmapped');
    },
  },
  {
    name: 'bytes of a CPU access that are still held keep their contents when the buffer is collected',
    async run() {
      const bytes = forget(() => {
        const access = allocateSync(size).cpuAccessSync('read-write');
        access.bytes.fill(7);
        return [access.bytes];
      });
      await collectUntil(() => bufferFds() === 0, 'the descriptor is closed');
      await turns();
      assertFilled(bytes[0] as Uint8Array, size, 7);
      bytes.length = 0;
      await collectUntil(() => mappedRanges() === 0, 'the range is unmapped');
    },
  },
  {
    name: 'memory that moved through a stream keeps its contents when all else is collected',
    async run() {
      const bytes: Uint8Array[] = [];
      await (async () => {
        bytes.push(await moveThroughStream(filled()[1].buffer));
      })();
      await collectUntil(() => bufferFds() === 0, 'the descriptor is closed');
      await turns();
      assertFilled(bytes[0] as Uint8Array, size, 7);
      bytes.length = 0;
      await collectUntil(() => mappedRanges() === 0, 'the range is unmapped');
    },
  },
  {
    name: 'transferred memory keeps its contents when all else is collected',
    skip: noTransfer,
    async run() {
      const bytes = forget(() => [transfer(filled()[1].buffer)]);
      await collectUntil(() => bufferFds() === 0, 'the descriptor is closed');
      await turns();
      assertFilled(bytes[0] as Uint8Array, size, 7);
      bytes.length = 0;
      await collectUntil(() => mappedRanges() === 0, 'the range is unmapped');
    },
  },
  {
    name: 'transferred memory that is collected first leaves the buffer usable',
    skip: noTransfer,
    async run() {
      const [buffer, mapping] = filled();
      forget(() => {
        transfer(mapping.buffer);
        transfer(buffer.cpuAccessSync('read').bytes.buffer as ArrayBuffer);
      });
      await collectUntil(() => mappedRanges() === 0, 'the ranges are unmapped');
      const bytes = new Uint8Array(size);
      buffer.read(bytes);
      assertFilled(bytes, size, 7);
      const access = buffer.cpuAccessSync('read');
      assertFilled(access.bytes, size, 7);
      access.end();
      mapping.unmap();
      buffer.close();
    },
  },
  {
    name: 'a mapping that is collected without unmap() gives its range back while the buffer stays open',
    async run() {
      const buffer = allocateSync(size);
      forget(() => {
        for (let i = 0; i < 20; i++) buffer.map();
      });
      await collectUntil(() => mappedRanges() === 0, 'the ranges are unmapped');
      buffer.map().unmap();
      buffer.close();
    },
  },
  {
    name: 'an abandoned buffer’s number in the table can be used again at once',
    async run() {
      const kept = forget(() => [filled()[1].bytes]);
      await collectUntil(() => bufferFds() === 0, 'the descriptor is closed');
      const [next, mapping] = filled();
      mapping.bytes.fill(8);
      kept.length = 0;
      await collectUntil(() => mappedRanges() === 1, 'the old range is unmapped');
      assertFilled(mapping.bytes, size, 8);
      next.close();
    },
  },
  {
    name: 'the kernel frees a buffer when its last bytes are collected',
    skip: noKernelList,
    async run() {
      const [bytes, inode] = forget(() => {
        const [buffer, mapping] = filled();
        return [[mapping.bytes], buffer.inode] as [Uint8Array[], number];
      });
      await collectUntil(() => bufferFds() === 0, 'the descriptor is closed');
      assert.ok(kernelHas(inode));
      assertFilled(bytes[0] as Uint8Array, size, 7);
      bytes.length = 0;
      await collectUntil(() => !kernelHas(inode), 'the buffer is freed');
    },
  },
  {
    name: 'an allocation that nobody awaits is collected and closed',
    async run() {
      await forget(async () => {
        await Promise.all(Array.from({ length: 5 }, () => allocate(size)));
      });
      await collectUntil(() => bufferFds() === 0, 'the descriptors are closed');
    },
  },
  {
    name: 'an allocation that was aborted leaves no descriptor',
    async run() {
      const controller = new AbortController();
      const allocations = Array.from({ length: 5 }, () => allocate(4 << 20, { signal: controller.signal }));
      controller.abort();
      for (const result of await Promise.allSettled(allocations)) assert.equal(result.status, 'rejected');
      await collectUntil(() => bufferFds() === 0 && heapFds() === 0, 'the descriptors are closed');
    },
  },
  {
    name: 'buffers, mappings and views may go in any order',
    async run() {
      const random = pseudoRandom(20_260);
      const upTo = (limit: number): number => random.next().value % limit;
      const buffers: DmaBuf[] = [];
      const mappings: DmaBufMapping[] = [];
      const views: Uint8Array[] = [];
      const drop = (list: unknown[]): unknown => list.splice(upTo(list.length + 1), 1);
      const actions: (() => unknown)[] = [
        () => buffers.push(allocateSync(size)),
        () => buffers.push(allocateSync(size)),
        () => buffers[0] && mappings.push((buffers[upTo(buffers.length)] as DmaBuf).map()),
        () => buffers[0] && mappings.push((buffers[upTo(buffers.length)] as DmaBuf).map({ offset: 4096 })),
        () => buffers[0] && views.push((buffers[upTo(buffers.length)] as DmaBuf).cpuAccessSync('read').bytes),
        () => mappings[0] && views.push((mappings[upTo(mappings.length)] as DmaBufMapping).bytes),
        () => tryOnReleased(() => noTransfer || (mappings[0] && views.push(transfer(mappings[0].buffer)))),
        () => mappings[upTo(mappings.length + 1)]?.unmap(),
        () => buffers.splice(upTo(buffers.length + 1), 1)[0]?.close(),
        () => drop(buffers),
        () => drop(mappings),
        () => drop(views),
        () => tryOnReleased(() => views[upTo(views.length + 1)]?.fill(7)),
        () => tryOnReleased(() => views[upTo(views.length + 1)]?.slice()),
      ];
      for (let step = 0; step < 2000; step++) {
        actions[upTo(actions.length)]?.();
        if (step % 20 === 0) collectGarbage();
        if (step % 5 === 0) await turn();
      }
      for (const buffer of buffers.splice(0)) buffer.close();
      mappings.length = 0;
      await collectUntil(() => bufferFds() === 0, 'the descriptors are closed');
      for (const view of views.splice(0)) tryOnReleased(() => view.fill(0));
      await collectUntil(() => mappedRanges() === 0, 'the ranges are unmapped');
    },
  },
  {
    name: 'bytes that were released are still so after every collection',
    async run() {
      const bytes = forget(() => {
        const [buffer, mapping] = filled();
        const { bytes } = mapping;
        buffer.close();
        return bytes;
      });
      for (let i = 0; i < 10; i++) {
        collectGarbage();
        await turn();
        assertReleased(bytes);
        tryOnReleased(() => bytes.fill(0));
      }
    },
  },
];
