import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { deflate } from 'node:zlib';
import { allocateSync } from 'dmabuf';
import { rejectsCode, throwsCode } from '../../support/expect.js';
import { loadCopy, loseMemory, lost, noticed, lostSize as size } from '../../support/faults.js';
import type { Scenario } from '../scenario.js';

export const scenarios: readonly Scenario[] = [
  {
    name: 'mapped bytes read zeros, all of them, after the first access',
    run() {
      const { buffer, bytes } = lost();
      assert.equal(bytes[size - 1], 0);
      assert.ok(bytes.every((byte) => byte === 0));
      buffer.close();
    },
  },
  {
    name: 'what is written into mapped bytes does not fault either',
    run() {
      const { buffer, bytes } = lost();
      bytes[100] = 1;
      assert.equal(buffer.lost, true);
      buffer.close();
    },
  },
  {
    name: 'lost tells of buffer and mapping, before and after close()',
    run() {
      const buffer = allocateSync(size);
      const mapping = buffer.map();
      assert.deepEqual([buffer.lost, mapping.lost], [false, false]);
      loseMemory(buffer);
      assert.equal(mapping.bytes[0], 0);
      assert.deepEqual([buffer.lost, mapping.lost, mapping.closed], [true, true, false]);
      buffer.close();
      assert.deepEqual([buffer.lost, mapping.lost, mapping.closed], [true, true, true]);
    },
  },
  {
    name: 'lost stays when the mapping that showed it is unmapped',
    run() {
      const buffer = allocateSync(size);
      const mapping = buffer.map();
      loseMemory(buffer);
      assert.equal(mapping.bytes[0], 0);
      mapping.unmap();
      assert.equal(buffer.lost, true);
      throwsCode(() => buffer.map(), 'ERR_DMABUF_LOST');
      buffer.close();
    },
  },
  {
    name: 'the first read() of a buffer that is lost throws ERR_DMABUF_LOST, and the next ones',
    run() {
      const buffer = allocateSync(size);
      const target = new Uint8Array(16);
      buffer.read(target);
      loseMemory(buffer);
      const error = throwsCode(() => buffer.read(target), 'ERR_DMABUF_LOST');
      assert.match(error.hint ?? '', /device/);
      throwsCode(() => buffer.read(target), 'ERR_DMABUF_LOST');
      buffer.close();
    },
  },
  {
    name: 'the first write() to a buffer that is lost throws ERR_DMABUF_LOST, and the next ones',
    run() {
      const buffer = allocateSync(size);
      buffer.write(new Uint8Array(16));
      loseMemory(buffer);
      throwsCode(() => buffer.write(new Uint8Array(16)), 'ERR_DMABUF_LOST');
      throwsCode(() => buffer.write(new Uint8Array(16)), 'ERR_DMABUF_LOST');
      buffer.close();
    },
  },
  {
    name: 'end() of a CPU access whose bytes were lost meanwhile throws ERR_DMABUF_LOST, once',
    run() {
      const buffer = allocateSync(size);
      const access = buffer.cpuAccessSync('read');
      loseMemory(buffer);
      assert.equal(access.bytes[5], 0);
      throwsCode(() => access.end(), 'ERR_DMABUF_LOST');
      access.end();
      buffer.close();
    },
  },
  {
    name: 'withCpuAccess and withCpuAccessSync report what their function did not see',
    async run() {
      const buffer = allocateSync(size);
      const other = allocateSync(size);
      throwsCode(
        () =>
          buffer.withCpuAccessSync('read', (bytes) => {
            loseMemory(buffer);
            return bytes[0];
          }),
        'ERR_DMABUF_LOST',
      );
      const promise = other.withCpuAccess('read', (bytes) => {
        loseMemory(other);
        return bytes[0];
      });
      await rejectsCode(() => promise, 'ERR_DMABUF_LOST');
      buffer.close();
      other.close();
    },
  },
  {
    name: 'CPU access and map() of a lost buffer throw ERR_DMABUF_LOST',
    async run() {
      const { buffer } = noticed();
      throwsCode(() => buffer.cpuAccessSync('read'), 'ERR_DMABUF_LOST');
      throwsCode(() => buffer.withCpuAccessSync('write', () => {}), 'ERR_DMABUF_LOST');
      await rejectsCode(() => buffer.cpuAccess('read'), 'ERR_DMABUF_LOST');
      throwsCode(() => buffer.map({ length: 4096 }), 'ERR_DMABUF_LOST');
      buffer.close();
    },
  },
  {
    name: 'what needs no bytes works on a lost buffer',
    async run() {
      const { buffer } = noticed();
      assert.equal(buffer.info().size, size);
      assert.equal(buffer.isReady('read'), true);
      await buffer.ready('write');
      buffer.setName('lost');
      const copy = buffer.dup();
      // Its exporter has the memory still, and only the first object's addresses were spoilt.
      assert.deepEqual([copy.lost, copy.map().bytes[9]], [false, 7]);
      copy.close();
      buffer.close();
    },
  },
  {
    name: 'one buffer that is lost leaves the others alone',
    run() {
      const other = allocateSync(size);
      other.write(new Uint8Array([9]));
      const { buffer } = noticed();
      const target = new Uint8Array(1);
      other.read(target);
      assert.deepEqual([other.lost, target[0]], [false, 9]);
      other.withCpuAccessSync('write', (bytes) => bytes.fill(1));
      buffer.close();
      other.close();
    },
  },
  {
    name: 'memory of another kind that takes the place of a lost buffer is not lost',
    run() {
      for (let round = 0; round < 300; round++) {
        const { buffer } = noticed();
        buffer.close();
        const next = allocateSync(size);
        next.map();
        assert.equal(next.lost, false);
        next.close();
      }
    },
  },
  {
    name: 'a job on the thread pool that meets lost bytes goes on with zeros',
    async run() {
      const { buffer, bytes } = lost();
      const packed = await promisify(deflate)(bytes);
      assert.ok(packed.length < 1000);
      assert.equal(buffer.lost, true);
      buffer.close();
    },
  },
  {
    name: 'writing lost bytes to a file fails with EFAULT',
    run() {
      const { buffer, bytes } = lost();
      const folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
      assert.throws(() => writeFileSync(join(folder, 'file'), bytes), { code: 'EFAULT' });
      rmSync(folder, { recursive: true });
      buffer.close();
    },
  },
  {
    name: 'a worker survives what it loses',
    async run() {
      const script = `
        const { workerData, parentPort } = require('node:worker_threads');
        import(workerData.scenarios).then(({ loseInWorker }) => parentPort.postMessage(loseInWorker()));
      `;
      const worker = new Worker(script, { eval: true, workerData: { scenarios: import.meta.url } });
      const answer = await new Promise((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      });
      assert.equal(answer, 'ERR_DMABUF_LOST');
      await worker.terminate();
      const { buffer } = noticed();
      buffer.close();
    },
  },
  {
    name: 'two copies of the addon each handle what they have mapped, whichever came last',
    run() {
      const copy = loadCopy();
      for (let round = 0; round < 4; round++) {
        const { buffer, bytes } = lost();
        const source = allocateSync(size);
        const handle = copy.importFd(source.fd, false);
        const theirs = new Uint8Array(copy.map(handle, true, 0, size));
        loseMemory(source);
        assert.deepEqual([bytes[1], theirs[1]], [0, 0]);
        assert.deepEqual([buffer.lost, copy.isLost(handle), source.lost], [true, true, false]);
        copy.close(handle);
        source.close();
        buffer.close();
      }
    },
  },
  {
    name: 'a listener of SIGBUS does not keep a later mapping from being looked after',
    run() {
      const listener = (): void => {};
      process.on('SIGBUS', listener);
      const { buffer } = noticed();
      process.off('SIGBUS', listener);
      const other = noticed();
      assert.deepEqual([buffer.lost, other.buffer.lost], [true, true]);
      buffer.close();
      other.buffer.close();
    },
  },
  {
    name: 'a listener of SIGBUS hears of a signal that somebody sends',
    async run() {
      noticed().buffer.close();
      const heard = new Promise((resolve) => process.once('SIGBUS', resolve));
      const buffer = allocateSync(size);
      buffer.map(); // ours is on top now
      const alive = setInterval(() => {}, 1000); // a listener of a signal keeps no process alive
      process.kill(process.pid, 'SIGBUS');
      await heard;
      clearInterval(alive);
      buffer.close();
    },
  },
];

/** What the worker does; returns the code that it got. */
export function loseInWorker(): unknown {
  const { buffer } = noticed();
  try {
    buffer.read(new Uint8Array(1));
    return 'nothing';
  } catch (error) {
    return (error as { code?: string }).code;
  } finally {
    buffer.close();
  }
}
