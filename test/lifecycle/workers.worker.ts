// What the scenarios of workers.scenarios.ts and ending.scenarios.ts have their workers do.

import assert from 'node:assert/strict';
import { randomFill } from 'node:crypto';
import { closeSync } from 'node:fs';
import { parentPort, threadId, workerData } from 'node:worker_threads';
import { deflate } from 'node:zlib';
import {
  allocate,
  allocateSync,
  DmaBuf,
  DmaBufChannel,
  type DmaBufMapping,
  DmaHeap,
  FdStream,
  type Sendable,
} from 'dmabuf';
import { replaceByStranger } from '../support/descriptors.js';
import { collectUntil, turn } from '../support/event-loop.js';
import { assertFilled, assertReleased, mappedRanges } from '../support/observe.js';
import { moveThroughStream } from './escape.js';

export type Role =
  | 'end normally'
  | 'call process.exit'
  | 'throw'
  | 'call process.exit as a message arrives'
  | 'run out of memory'
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
  | 'adopt and give back'
  | 'pass on what comes'
  | 'wait on both sides of channels'
  | 'do everything over and over'
  | 'use channels over and over';

/** Of the role that waits on both sides of channels: the numbers of its ends, and where to listen. */
export interface WaitingChannels {
  receiving: number;
  sending: number;
  /** Of this nothing is received. */
  ignored: number;
  path: string;
}

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

function closeReceived(handles: readonly Sendable[]): void {
  for (const handle of handles) {
    if (typeof handle === 'number') closeSync(handle);
    else handle.close();
  }
}

/** Uses a new pair and, every other time, a server, and leaves them in various states. */
async function useChannels(round: number, handles: readonly Sendable[]): Promise<void> {
  const ignore = (): void => {};
  const [here, there] = DmaBufChannel.pair();
  kept.push(here, there);
  await here.send(`round ${round}`, handles);
  closeReceived((await there.receive())?.handles ?? []);
  if (round % 3 === 0) here.receive().catch(ignore);
  if (round % 4 === 0) {
    // More than the socket holds: some wait.
    for (let index = 0; index < 5; index++) here.send(new Uint8Array(100_000), handles).catch(ignore);
  }
  if (round % 5 === 0) there.receive().then((message) => closeReceived(message?.handles ?? []), ignore);
  if (round % 7 === 0) here.close();
  if (round % 2 === 0) return;
  const server = DmaBufChannel.listen(`@dmabuf-${process.pid}-${threadId}-${round}`);
  const accepted = server.accept();
  const clients = [await DmaBufChannel.connect(server.path), await DmaBufChannel.connect(server.path)];
  kept.push(server, ...clients, await accepted);
  for (const client of clients) await client.send('hello', handles);
  if (round % 3 === 0) kept.push(await server.accept());
  server.accept().then((channel) => kept.push(channel), ignore);
}

/** The same with streams. */
async function useStreams(round: number, handles: readonly Sendable[]): Promise<void> {
  const ignore = (): void => {};
  const [here, there] = FdStream.pair();
  kept.push(here, there);
  for (const end of [here, there]) end.on('error', ignore);
  await here.send(`round ${round}`, handles);
  if (round % 2 === 0) closeReceived((await there.receive())?.handles ?? []);
  else there.on('data', ignore); // and the descriptors are not taken
  if (round % 3 === 0) here.receive().catch(ignore);
  if (round % 4 === 0) {
    for (let index = 0; index < 5; index++) here.send(new Uint8Array(200_000), handles).catch(ignore);
    here.write(new Uint8Array(200_000));
  }
  if (round % 5 === 0) here.end();
  if (round % 7 === 0) here.destroy();
  if (round % 3 === 0) return;
  const server = FdStream.listen(`@dmabuf-streams-${process.pid}-${threadId}-${round}`);
  kept.push(server, await FdStream.connect(server.address));
  server.accept().then((stream) => kept.push(stream), ignore);
  FdStream.connect(`${server.address}-absent`, { retry: true, timeout: 1000 }).catch(ignore);
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
  'call process.exit as a message arrives': async () => {
    const [buffer] = holdAll();
    await useChannels(1, [buffer]);
    const [here, there] = DmaBufChannel.pair();
    kept.push(here, there);
    void there.receive().then(() => process.exit(7));
    void there.receive();
    void here.receive();
    setImmediate(() => {
      for (const text of ['one', 'two', 'three']) void here.send(text, [buffer]);
    });
  },
  'run out of memory': async () => {
    await useChannels(1, [holdAll()[0]]);
    for (const hoard: unknown[] = []; ; ) hoard.push(Array.from({ length: 1000 }, Math.random));
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
  'adopt and give back': async () => {
    const { fd, channelFd } = workerData as { fd: number; channelFd: number };
    const buffer = DmaBuf.adopt(fd);
    const channel = DmaBufChannel.adopt(channelFd);
    buffer.withCpuAccessSync('write', (bytes) => bytes.fill(9));
    await channel.send('mine', [buffer]);
    say([buffer.release(), channel.release()]);
  },
  'pass on what comes': async () => {
    const { from, to } = workerData as { from: number; to: number };
    const receiving = DmaBufChannel.adopt(from);
    const sending = DmaBufChannel.adopt(to);
    for await (const { data, handles } of receiving) {
      const [buffer] = handles as [DmaBuf];
      buffer.withCpuAccessSync('read-write', (bytes) => {
        bytes[0] = (bytes[0] as number) + 1;
      });
      await sending.send(data, handles);
      buffer.close();
    }
    sending.close();
    receiving.close();
  },
  'wait on both sides of channels': async () => {
    const { receiving, sending, ignored, path } = workerData as WaitingChannels;
    kept.push(DmaBufChannel.adopt(ignored));
    const [reader, writer] = [DmaBufChannel.adopt(receiving), DmaBufChannel.adopt(sending)];
    const server = DmaBufChannel.listen(path);
    kept.push(reader, writer, server, await server.accept());
    void reader.receive();
    void server.accept().then((channel) => kept.push(channel));
    const inodes = Array.from({ length: 6 }, () => {
      const buffer = allocateSync(size);
      const { inode } = buffer;
      void writer.send(new Uint8Array(100_000), [buffer]);
      buffer.close();
      return inode;
    });
    say(inodes);
  },
  'do everything over and over': async () => {
    const views: unknown[] = [];
    for (let round = 0; ; round++) {
      say(round);
      const buffer = await allocate(size * (1 + (round % 16)));
      kept.push(buffer);
      const mapping = buffer.map();
      // Not zlib: Node 20 aborts when a worker is terminated as it makes a stream ("close before init").
      randomFill(mapping.bytes, () => {});
      views.push(buffer.cpuAccessSync('write').bytes, await moveThroughStream(buffer.map().buffer));
      const file = buffer.exportSyncFile('read');
      kept.push(file);
      await useChannels(round, [buffer, file]);
      await useStreams(round, [buffer, file]);
      if (round % 2 === 0) buffer.close();
      if (round % 3 === 0) mapping.unmap();
      if (round % 5 === 0) void allocate(1 << 20).then((late) => kept.push(late));
      if (round % 10 === 0) closeAll();
      if (views.length > 20) views.length = 0;
      await turn();
    }
  },
  'use channels over and over': async () => {
    for (let round = 0; ; round++) {
      say(round);
      await useChannels(round, [workerData.fd as number]);
      await useStreams(round, [workerData.fd as number]);
      if (round % 10 === 0) closeAll();
      await turn();
    }
  },
};

await roles[workerData.role as Role]();
