import { once } from 'node:events';
import { deflate } from 'node:zlib';
import {
  allocate,
  allocateSync,
  type DmaBuf,
  DmaBufChannel,
  type DmaBufMapping,
  DmaHeap,
  FdStream,
} from 'dmabuf';
import { replaceByStranger } from '../support/descriptors.js';
import { turns } from '../support/event-loop.js';
import { assertFilled } from '../support/observe.js';
import { moveThroughStream, noTransfer, transfer } from './escape.js';
import type { Scenario } from './scenario.js';
import { messageOf, start } from './threads.js';

const size = 64 * 1024;

/** What the process still refers to when it ends. */
const kept: unknown[] = [];

function holdAll(): [DmaBuf, DmaBufMapping] {
  const heap = DmaHeap.open('system');
  const buffer = heap.allocateSync(size);
  const mapping = buffer.map();
  mapping.bytes.fill(7);
  kept.push(heap, buffer, mapping, buffer.cpuAccessSync('read-write'), buffer.dup(), buffer.map());
  return [buffer, mapping];
}

export const scenarios: readonly Scenario[] = [
  {
    name: 'the script ends with everything open',
    async run() {
      const [, mapping] = holdAll();
      kept.push(mapping.bytes, await moveThroughStream(mapping.buffer));
      if (noTransfer === false) kept.push(transfer((holdAll()[1] as DmaBufMapping).buffer));
      const [buffer] = holdAll();
      buffer.close();
    },
  },
  {
    name: 'process.exit() with everything open, during a CPU access, with jobs on all threads',
    async run() {
      const [, mapping] = holdAll();
      const large = allocateSync(8 << 20);
      deflate(large.map().bytes, { chunkSize: 16 << 20 }, () => {});
      const released = allocateSync(8 << 20);
      deflate(released.map().bytes, { chunkSize: 16 << 20 }, () => {});
      released.close();
      for (let i = 0; i < 8; i++) void allocate(8 << 20);
      kept.push(await moveThroughStream(mapping.buffer));
      large.withCpuAccessSync('write', () => process.exit(7));
    },
  },
  {
    name: 'process.exit() the moment an allocation begins',
    run() {
      void allocate(32 << 20);
      process.exit(0);
    },
  },
  {
    name: 'an exit listener releases, maps and allocates',
    run() {
      const [buffer, mapping] = holdAll();
      process.on('exit', () => {
        mapping.unmap();
        const late = buffer.map();
        assertFilled(late.bytes, size, 7);
        buffer.close();
        kept.push(late, allocateSync(size).map(), allocate(size));
      });
    },
  },
  {
    name: 'an exit listener sends, receives, waits, and closes one of two channels',
    async run() {
      const [buffer] = holdAll();
      const [here, there] = DmaBufChannel.pair();
      const server = DmaBufChannel.listen(`@dmabuf-ending-${process.pid}`);
      kept.push(here, there, server, await DmaBufChannel.connect(server.path));
      process.on('exit', () => {
        const calls: Promise<unknown>[] = [here.send('in time', [buffer])];
        calls.push(there.receive(), there.receive(), here.receive(), server.accept(), server.accept());
        for (let index = 0; index < 5; index++) calls.push(here.send(new Uint8Array(100_000), [buffer]));
        for (const call of calls) call.catch(() => {});
        kept.push(...DmaBufChannel.pair());
        there.close();
      });
    },
  },
  {
    name: 'process.exit() as a message arrives, while others wait',
    async run() {
      const [buffer] = holdAll();
      for (let index = 0; index < 20; index++) {
        const [here, there] = DmaBufChannel.pair();
        kept.push(here, there.receive(), here.receive());
        void there.receive().then(() => process.exit(7));
        setImmediate(() => {
          for (const text of ['one', 'two', 'three']) void here.send(text, [buffer]);
        });
      }
    },
  },
  {
    name: 'process.exit() as bytes with descriptors arrive, while others wait',
    async run() {
      const [buffer] = holdAll();
      for (let index = 0; index < 20; index++) {
        const [here, there] = FdStream.pair();
        kept.push(here, there);
        there.on('data', () => process.exit(7));
        setImmediate(() => {
          for (const text of ['one', 'two', 'three']) void here.send(text, [buffer]);
          here.write(new Uint8Array(500_000));
        });
      }
    },
  },
  {
    name: 'an exit listener sends, receives, takes, and destroys one of two streams',
    async run() {
      const [buffer] = holdAll();
      const [here, there] = FdStream.pair();
      const server = FdStream.listen(`@dmabuf-ending-stream-${process.pid}`);
      kept.push(here, there, server, await FdStream.connect(server.address));
      await here.send('read ahead', [buffer, buffer]);
      await once(there, 'readable');
      process.on('exit', () => {
        kept.push(there.takeHandle(), there.read());
        const calls: Promise<unknown>[] = [here.send('in time', [buffer]), here.receive(), server.accept()];
        for (let index = 0; index < 5; index++) calls.push(here.send(new Uint8Array(200_000), [buffer]));
        for (const call of calls) call.catch(() => {});
        kept.push(...FdStream.pair());
        there.destroy();
      });
    },
  },
  {
    name: 'an exception in a loop over messages',
    async run() {
      const [here, there] = DmaBufChannel.pair();
      kept.push(here, there);
      await here.send('one', [holdAll()[0]]);
      setImmediate(async () => {
        for await (const message of there) {
          kept.push(message, there.receive());
          throw new Error('as expected');
        }
      });
    },
  },
  {
    name: 'an exception that nobody catches, during a CPU access',
    run() {
      const [buffer] = holdAll();
      setImmediate(() => {
        buffer.withCpuAccessSync('write', () => {
          throw new Error('as expected');
        });
      });
    },
  },
  {
    name: 'a rejection that nobody handles, of an allocation',
    run() {
      const [buffer] = holdAll();
      const heap = DmaHeap.open('system');
      void heap.allocate(size).then(() => {
        heap.close();
        kept.push(buffer);
        return heap.allocate(size);
      });
    },
  },
  {
    name: 'a descriptor that was closed behind its owner’s back',
    run() {
      const [buffer, mapping] = holdAll();
      replaceByStranger(buffer.fd);
      kept.push(mapping.bytes);
    },
  },
  {
    name: 'a write to a mapping with faultOnWrite',
    run() {
      const mapping = allocateSync(size).map({ access: 'read', faultOnWrite: true });
      kept.push(mapping);
      const { bytes } = mapping;
      assertFilled(bytes, size, 0);
      bytes[0] = 1;
    },
  },
  {
    name: 'a write through transferred memory of a mapping with faultOnWrite, after unmap()',
    async run() {
      const mapping = allocateSync(size).map({ access: 'read', faultOnWrite: true });
      kept.push(mapping);
      const bytes = await moveThroughStream(mapping.buffer);
      mapping.unmap();
      bytes.fill(1);
    },
  },
  {
    name: 'the script ends while workers hold everything',
    async run() {
      const workers = [start('wait'), start('give memory away')];
      kept.push(...(await Promise.all(workers.map(messageOf))));
      for (const worker of workers) worker.unref();
    },
  },
  {
    name: 'process.exit() while workers map, allocate and release',
    async run() {
      const workers = [start('do everything over and over'), start('do everything over and over')];
      await Promise.all(workers.map(messageOf));
      await turns(50);
      holdAll();
      process.exit(7);
    },
  },
  {
    name: 'process.exit() while a worker writes to memory that it was given',
    async run() {
      const [, mapping] = holdAll();
      const bytes = await moveThroughStream(mapping.buffer);
      await messageOf(start('write to what it was given', { bytes }, [bytes.buffer as ArrayBuffer]));
      process.exit(0);
    },
  },
  {
    name: 'a worker throws and nobody listens',
    run() {
      holdAll();
      start('throw');
    },
  },
];
