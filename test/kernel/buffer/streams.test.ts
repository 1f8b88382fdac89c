// Streams of a buffer's bytes, and into a buffer.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { buffer as readAll } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { allocateSync, openHandles } from 'dmabuf';
import { turns, until } from '../../support/event-loop.js';
import { rejectsCode, throwsCode, unsound } from '../../support/expect.js';
import { addFence, fenceTest } from '../../support/fences.js';
import { kernelTest } from '../../support/kernel-test.js';

const pattern = (length: number): Buffer => Buffer.from(Array.from({ length }, (_, index) => index * 7));

kernelTest('a read stream gives all bytes of the buffer, in chunks', async () => {
  using buffer = allocateSync(8192);
  buffer.write(pattern(8192));
  const sizes: number[] = [];
  const stream = buffer.createReadStream({ highWaterMark: 3000 });
  stream.on('data', (chunk: Buffer) => sizes.push(chunk.length));
  await once(stream, 'close');
  assert.deepEqual(sizes, [3000, 3000, 2192]);
  assert.deepEqual(await readAll(buffer.createReadStream()), pattern(8192));
});

kernelTest('a read stream takes a position and a length', async () => {
  using buffer = allocateSync(4096);
  buffer.write(pattern(4096));
  const bytes = await readAll(buffer.createReadStream({ position: 100, length: 50 }));
  assert.deepEqual(bytes, pattern(4096).subarray(100, 150));
  assert.equal((await readAll(buffer.createReadStream({ position: 4096 }))).length, 0);
});

kernelTest('a read stream goes on when the buffer is closed, and then lets go of it', async () => {
  const buffer = allocateSync(8192);
  buffer.write(pattern(8192));
  const stream = buffer.createReadStream({ highWaterMark: 1000 });
  buffer.close();
  assert.equal(openHandles().length, 1);
  assert.deepEqual(await readAll(stream), pattern(8192));
  await until(() => openHandles().length === 0);
});

kernelTest('a stream that is destroyed, or ended by a signal, lets go of the buffer', async () => {
  using buffer = allocateSync(4096);
  buffer.createReadStream().destroy();
  const controller = new AbortController();
  const aborted = buffer.createWriteStream({ signal: controller.signal });
  controller.abort();
  await assert.rejects(once(aborted, 'close'), { name: 'AbortError' });
  await until(() => openHandles().length === 1);
});

kernelTest('a write stream writes to the buffer, from a position on', async () => {
  using buffer = allocateSync(4096);
  const chunks = [pattern(1000), pattern(500)];
  await pipeline(Readable.from(chunks), buffer.createWriteStream({ position: 96 }));
  const written = new Uint8Array(1500);
  buffer.read(written, 96);
  assert.deepEqual(Buffer.from(written), Buffer.concat(chunks));
});

kernelTest('a write stream refuses what exceeds its range, and writes nothing of it', async () => {
  using buffer = allocateSync(4096);
  const stream = buffer.createWriteStream({ position: 4000, length: 90 });
  await rejectsCode(() => pipeline(Readable.from([pattern(60), pattern(31)]), stream), 'ERR_OUT_OF_RANGE');
  const last = new Uint8Array(36);
  buffer.read(last, 4060);
  assert.deepEqual(last, new Uint8Array(36));
});

kernelTest('wrong ranges and options are refused, and nothing is opened', () => {
  using buffer = allocateSync(4096);
  for (const make of ['createReadStream', 'createWriteStream'] as const) {
    throwsCode(() => buffer[make]({ position: 4097 }), 'ERR_OUT_OF_RANGE');
    throwsCode(() => buffer[make]({ position: 4000, length: 97 }), 'ERR_OUT_OF_RANGE');
    throwsCode(() => buffer[make]({ highWaterMark: 0 }), 'ERR_OUT_OF_RANGE');
    throwsCode(() => buffer[make](unsound({ start: 5 })), 'ERR_INVALID_ARG_VALUE');
  }
  assert.equal(openHandles().length, 1);
});

kernelTest('a write stream into a buffer that may only be read fails', async () => {
  using buffer = allocateSync(4096, { access: 'read' });
  await rejectsCode(() => pipeline(Readable.from([pattern(10)]), buffer.createWriteStream()), 'EACCES');
});

fenceTest('streams wait for the devices that use the buffer', async () => {
  using buffer = allocateSync(4096);
  using fence = addFence(buffer, 'write');
  const read = readAll(buffer.createReadStream({ length: 10 }));
  const written = pipeline(Readable.from([pattern(10)]), buffer.createWriteStream({ position: 100 }));
  await turns();
  fence.signal();
  assert.deepEqual(await read, Buffer.alloc(10));
  await written;
});
