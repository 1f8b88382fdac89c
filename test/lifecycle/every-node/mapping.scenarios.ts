import assert from 'node:assert/strict';
import { constants as bufferConstants } from 'node:buffer';
import { randomFill } from 'node:crypto';
import { closeSync, read, readSync, write, writeSync } from 'node:fs';
import { freemem } from 'node:os';
import { promisify } from 'node:util';
import { MessageChannel } from 'node:worker_threads';
import { deflate, inflateSync } from 'node:zlib';
import { allocateSync, type DmaBuf } from 'dmabuf';
import { contents, filled } from '../../support/buffers.js';
import { replaceByStranger } from '../../support/descriptors.js';
import { collectUntil, turn, turns } from '../../support/event-loop.js';
import {
  assertFilled,
  assertReleased,
  bufferFds,
  kernelHas,
  mapEntries,
  mappedRanges,
  noKernelList,
  tryOnReleased,
} from '../../support/observe.js';
import { drain, withPipe } from '../../support/pipes.js';
import { moveThroughStream, noTransfer, transfer } from '../escape.js';
import type { Scenario } from '../scenario.js';

const size = 64 * 1024;

/** Bytes that no compressor shrinks much, so that its output comes in many pieces. */
function fillWithNoise(bytes: Uint8Array): void {
  for (let i = 0, state = 1; i < bytes.length; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[i] = state >>> 24;
  }
}

/** Why no buffer larger than the largest ArrayBuffer can be made here; false when one can. */
function noHugeBuffer(): string | false {
  if (bufferConstants.MAX_LENGTH > 2 ** 40)
    return 'an ArrayBuffer may be larger than any memory since Node.js 22';
  return freemem() > bufferConstants.MAX_LENGTH * 1.2
    ? false
    : 'needs 5 GiB of memory (dmabuf vm --memory 7000)';
}

export const scenarios: readonly Scenario[] = [
  {
    name: 'unmap() releases its mapping and no other, once',
    run() {
      const [buffer, mapping] = filled();
      const other = buffer.map();
      const { bytes } = mapping;
      mapping.unmap();
      mapping.unmap();
      assert.ok(mapping.closed);
      assertReleased(bytes);
      assertReleased(mapping.bytes);
      assertFilled(other.bytes, size, 7);
      assertFilled(contents(buffer), size, 7);
      buffer.close();
    },
  },
  {
    name: 'close() releases every mapping and the bytes of CPU accesses, once',
    run() {
      const [buffer, first] = filled();
      const second = buffer.map({ offset: 4096 });
      const access = buffer.cpuAccessSync('read-write');
      const views = [first.bytes, second.bytes, access.bytes];
      buffer.close();
      buffer.close();
      first.unmap();
      second.unmap();
      access.end();
      for (const view of views) assertReleased(view);
      assert.equal(mappedRanges(buffer.inode), 0);
    },
  },
  {
    name: 'every kind of view of released memory is harmless',
    run() {
      const [buffer, mapping] = filled();
      const copy = Buffer.from(mapping.buffer);
      const words = new Float64Array(mapping.buffer);
      const data = new DataView(mapping.buffer);
      const part = mapping.bytes.subarray(100, 200);
      mapping.unmap();
      assertReleased(copy);
      assertReleased(part);
      tryOnReleased(() => words.fill(1));
      tryOnReleased(() => data.setUint8(0, 1));
      assertFilled(contents(buffer), size, 7);
      buffer.close();
    },
  },
  {
    name: 'a view may be released by what runs in the middle of its own method',
    run() {
      const attacks: ((bytes: Uint8Array, release: () => number) => unknown)[] = [
        (bytes, release) => bytes.map(release),
        (bytes, release) => bytes.sort(release),
        (bytes, release) => bytes.fill({ valueOf: release } as unknown as number),
        (bytes, release) => bytes.copyWithin({ valueOf: release } as unknown as number, 4096),
        (bytes, release) => bytes.set([{ valueOf: release } as unknown as number, 2, 3]),
        (bytes, release) => bytes.indexOf(9, { valueOf: release } as unknown as number),
        (bytes, release) => bytes.slice({ valueOf: release } as unknown as number),
      ];
      for (const attack of attacks) {
        const [buffer, mapping] = filled();
        const { bytes } = mapping;
        const release = (): number => {
          mapping.unmap();
          return 0;
        };
        tryOnReleased(() => attack(bytes, release));
        assertFilled(contents(buffer), size, 7);
        buffer.close();
      }
    },
  },
  {
    name: 'a buffer may be closed by the function that withCpuAccessSync() calls',
    run() {
      const buffer = allocateSync(size);
      const bytes = buffer.withCpuAccessSync('write', (bytes) => {
        bytes.fill(7);
        buffer.close();
        return bytes;
      });
      assertReleased(bytes);
    },
  },
  {
    name: 'read() and write() take mappings of the same buffer, released ones too',
    run() {
      const [buffer, mapping] = filled();
      const { bytes } = mapping;
      assert.equal(buffer.read(bytes), size);
      assert.equal(buffer.write(bytes.subarray(0, size - 1), 1), size - 1);
      assertFilled(contents(buffer), size, 7);
      mapping.unmap();
      buffer.read(bytes);
      tryOnReleased(() => bytes.fill(7));
      buffer.write(bytes);
      assertFilled(contents(buffer), size, 7);
      buffer.close();
    },
  },
  {
    name: 'a mapping with faultOnWrite can be written to once it is released',
    run() {
      const [buffer] = filled();
      const mapping = buffer.map({ access: 'read', faultOnWrite: true });
      const { bytes } = mapping;
      assertFilled(bytes, size, 7);
      mapping.unmap();
      assertReleased(bytes);
      assertFilled(contents(buffer), size, 7);
      buffer.close();
    },
  },
  {
    name: 'transferred memory is the buffer until unmap(), and nobody’s afterwards',
    skip: noTransfer,
    async run() {
      const [buffer, mapping] = filled();
      const bytes = transfer(mapping.buffer);
      assertFilled(bytes, size, 7);
      bytes.fill(8);
      assertFilled(contents(buffer), size, 8);
      mapping.unmap();
      assertReleased(bytes);
      await collectUntil(() => true, 'nothing');
      bytes.fill(9);
      assertFilled(contents(buffer), size, 8);
      buffer.close();
    },
  },
  {
    name: 'transferred memory is nobody’s after close()',
    skip: noTransfer,
    async run() {
      const [buffer, mapping] = filled();
      const views = [
        transfer(mapping.buffer),
        transfer(buffer.cpuAccessSync('read').bytes.buffer as ArrayBuffer),
      ];
      buffer.close();
      for (const view of views) assertReleased(view);
      await turns();
      for (const view of views) view.fill(9);
    },
  },
  {
    name: 'a transfer that changes the size copies',
    skip: noTransfer,
    async run() {
      const [buffer, mapping] = filled();
      const longer = (mapping.buffer as ArrayBuffer & { transfer(length: number): ArrayBuffer }).transfer(
        size * 2,
      );
      await turns(); // the range went with the ArrayBuffer
      mapping.unmap();
      buffer.close();
      assertFilled(new Uint8Array(longer, 0, size), size, 7);
    },
  },
  {
    name: 'the bytes of a CPU access may be transferred away: the next access has bytes of its own',
    skip: noTransfer,
    async run() {
      const [buffer] = filled();
      const access = buffer.cpuAccessSync('read-write');
      const taken = transfer(access.bytes.buffer as ArrayBuffer);
      access.end();
      const next = buffer.cpuAccessSync('read-write');
      assertFilled(next.bytes, size, 7);
      next.end();
      await turns();
      taken.fill(1);
      buffer.close();
      await turns();
      taken.fill(2);
    },
  },
  {
    name: 'memory that moved through a byte stream is nobody’s after unmap()',
    async run() {
      const [buffer, mapping] = filled();
      const bytes = await moveThroughStream(mapping.buffer);
      assertFilled(bytes, size, 7);
      mapping.unmap();
      assertReleased(bytes);
      await turns();
      bytes.fill(9);
      assertFilled(contents(buffer), size, 7);
      buffer.close();
    },
  },
  {
    name: 'a byte stream may be reading into memory that is released',
    async run() {
      const [buffer, mapping] = filled();
      let request: ReadableStreamBYOBRequest | null = null;
      const stream = new ReadableStream({
        type: 'bytes',
        pull(controller) {
          request = (controller as ReadableByteStreamController).byobRequest;
        },
      });
      const reading = stream.getReader({ mode: 'byob' }).read(new Uint8Array(mapping.buffer));
      while (request === null) await turn();
      buffer.close();
      await turns();
      const { view, respond } = request as ReadableStreamBYOBRequest;
      assertReleased(view as Uint8Array);
      respond.call(request, size);
      const { value } = await reading;
      assertReleased(value as Uint8Array);
    },
  },
  {
    name: 'a structured clone has a copy of the bytes',
    run() {
      const [buffer, mapping] = filled();
      const copy = structuredClone(mapping.bytes);
      buffer.close();
      assertFilled(copy, size, 7);
    },
  },
  {
    name: 'a transfer list never takes the memory away: it is refused or copied',
    async run() {
      const [buffer, mapping] = filled();
      const { port1, port2 } = new MessageChannel();
      const received = new Promise<Uint8Array>((resolve) => port2.once('message', resolve));
      const attempts: (() => Uint8Array | Promise<Uint8Array>)[] = [
        () => structuredClone(mapping.bytes, { transfer: [mapping.buffer] }),
        () => {
          port1.postMessage(mapping.bytes, [mapping.buffer]);
          return received;
        },
      ];
      for (const attempt of attempts) {
        try {
          assertFilled(await attempt(), size, 7);
        } catch (error) {
          assert.equal((error as Error).name, 'DataCloneError');
        }
        assertFilled(mapping.bytes, size, 7);
      }
      port1.close();
      buffer.close();
    },
  },
  {
    name: 'a thread may be compressing memory that is released',
    async run() {
      const [buffer, mapping] = filled(16 << 20);
      // One piece of output: all the input is read in one go on the thread pool.
      const compressing = promisify<Uint8Array, { chunkSize: number; level: number }, Buffer>(deflate)(
        mapping.bytes,
        {
          chunkSize: 32 << 20,
          level: 6,
        },
      );
      mapping.unmap();
      await turns(100);
      const bytes = inflateSync(await compressing);
      assert.equal(bytes.length, buffer.size);
      assert.ok(bytes.every((byte) => byte === 7 || byte === 0));
      buffer.close();
    },
  },
  {
    name: 'a thread may be compressing memory piece by piece that is released',
    async run() {
      const buffer = allocateSync(1 << 20);
      const { bytes } = buffer.map();
      fillWithNoise(bytes);
      const compressing = promisify<Uint8Array, Buffer>(deflate)(bytes);
      await turn();
      buffer.close();
      await turns(100);
      assert.equal(inflateSync(await compressing).length, 1 << 20);
    },
  },
  {
    name: 'a thread may be filling memory that is released',
    async run() {
      const [buffer, mapping] = filled(16 << 20);
      const filling = promisify<Uint8Array, Uint8Array>(randomFill)(mapping.bytes);
      buffer.close();
      await turns(100);
      await filling;
    },
  },
  {
    name: 'a file read that ends after unmap() writes into nobody’s memory',
    async run() {
      const [buffer, mapping] = filled();
      await withPipe(async (pipe) => {
        const reading = new Promise<number>((resolve, reject) => {
          read(pipe, mapping.bytes, 0, 4096, null, (error, count) =>
            error ? reject(error) : resolve(count),
          );
        });
        mapping.unmap();
        await turns();
        writeSync(pipe, Buffer.alloc(4096, 8));
        assert.equal(await reading, 4096);
      });
      assertFilled(contents(buffer), size, 7);
      buffer.close();
    },
  },
  {
    name: 'a file write that goes on after unmap() reads zeros',
    async run() {
      const length = 1 << 20; // more than a pipe holds
      const [buffer, mapping] = filled(length);
      await withPipe(async (pipe) => {
        const writing = new Promise<number>((resolve, reject) => {
          write(pipe, mapping.bytes, (error, count) => (error ? reject(error) : resolve(count)));
        });
        const all = Buffer.alloc(length);
        let count = readSync(pipe, all, 0, 1, null); // the write has begun
        mapping.unmap();
        await turns();
        count += await drain(pipe, all.subarray(count), writing);
        assert.deepEqual({ written: await writing, count }, { written: length, count: length });
        assert.equal(all[0], 7);
        assert.equal(all[length - 1], 0);
      });
      buffer.close();
    },
  },
  {
    name: 'a descriptor that was closed behind the buffer’s back leaves its mapping whole',
    run() {
      const [buffer, mapping] = filled();
      const stranger = buffer.fd;
      replaceByStranger(stranger);
      assert.throws(() => buffer.map(), { code: 'ERR_DMABUF_STALE_FD' });
      assertFilled(mapping.bytes, size, 7);
      const { bytes } = mapping;
      buffer.close();
      assertReleased(bytes);
      closeSync(stranger); // still open: close() left it alone
    },
  },
  {
    name: 'the kernel frees a closed buffer while stale views of it are kept',
    skip: noKernelList,
    async run() {
      const [buffer, mapping] = filled();
      const views = [
        mapping.bytes,
        buffer.cpuAccessSync('read').bytes,
        await moveThroughStream(buffer.map().buffer),
      ];
      assert.ok(kernelHas(buffer.inode));
      buffer.close();
      assert.ok(!kernelHas(buffer.inode));
      for (const view of views) assertReleased(view);
    },
  },
  {
    name: 'the kernel keeps a buffer until the last of its descriptors and mappings is released',
    skip: noKernelList,
    run() {
      const [first, mapping] = filled();
      const { inode } = first;
      const second = first.dup();
      const { bytes } = second.map();
      first.close();
      assert.ok(mapping.closed);
      assert.ok(kernelHas(inode));
      assertFilled(bytes, size, 7);
      closeSync(second.release());
      assert.ok(!kernelHas(inode));
    },
  },
  {
    name: 'a range larger than an ArrayBuffer may be is refused, and smaller ones are not',
    skip: noHugeBuffer(),
    run() {
      const buffer = allocateSync(bufferConstants.MAX_LENGTH + 4096);
      for (let round = 0; round < 3; round++) {
        assert.throws(() => buffer.map());
        assert.throws(() => buffer.cpuAccessSync('read'));
      }
      assertFilled(buffer.map({ length: size }).bytes, size, 0);
      assert.equal(buffer.read(new Uint8Array(size), bufferConstants.MAX_LENGTH), 4096);
      buffer.close();
      assert.equal(mappedRanges(), 0);
    },
  },
  {
    name: '20 000 mappings made and released in one turn of the event loop leave no trace in the address space',
    async run() {
      const buffer = allocateSync(4096);
      buffer.map().unmap();
      const before = mapEntries().length;
      for (let round = 0; round < 20_000; round++) buffer.map().unmap();
      assert.ok(mapEntries().length < before + 200, `${mapEntries().length} entries, before ${before}`);
      assert.equal(mappedRanges(), 0);
      await collectUntil(() => mapEntries().length < before + 100, 'the ranges are unmapped');
      buffer.close();
    },
  },
  {
    name: '500 buffers open at once, closed in another order, leave no descriptor and no mapping',
    run() {
      const fds = bufferFds();
      const buffers = Array.from({ length: 500 }, () => filled(4096)[0]);
      assert.equal(bufferFds(), fds + 500);
      for (let i = 0; i < 500; i++) (buffers[(i * 7) % 500] as DmaBuf).close();
      assert.equal(bufferFds(), fds);
      assert.equal(mappedRanges(), 0);
    },
  },
];
