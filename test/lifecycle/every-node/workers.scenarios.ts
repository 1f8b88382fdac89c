import assert from 'node:assert/strict';
import { closeSync, fstatSync } from 'node:fs';
import { allocateSync, type ChannelMessage, DmaBuf, DmaBufChannel } from 'dmabuf';
import { collectGarbage, collectUntil, turns, until } from '../../support/event-loop.js';
import {
  assertFilled,
  assertReleased,
  bufferFds,
  heapFds,
  mappedRanges,
  noKernelList,
  socketFds,
  untilGone,
} from '../../support/observe.js';
import { moveThroughStream } from '../escape.js';
import type { Scenario } from '../scenario.js';
import { endOf, manyWorkers, messageOf, start, terminateAtRandom } from '../threads.js';
import type { Role, WaitingChannels } from '../workers.worker.js';

const size = 64 * 1024;

/** The process's own. */
const sockets = socketFds();

/** Asserts that what ended workers held is gone: the process's descriptors and mappings are the kernel's count. */
async function assertNothingLeft(): Promise<void> {
  // A thread closes what others may hold, and the event loop the copies that this thread itself waited with.
  await until(() => bufferFds() === 0 && heapFds() === 0, 'buffers and heaps are closed');
  await until(() => socketFds() === sockets, 'the sockets are closed');
  await collectUntil(() => mappedRanges() === 0, 'the ranges are unmapped');
}

/** The next message, which must be there or come. */
async function nextOf(channel: DmaBufChannel): Promise<ChannelMessage> {
  const message = await channel.receive();
  assert.ok(message, 'the peer is gone');
  return message;
}

async function terminated(role: Role): Promise<void> {
  const worker = start(role);
  assert.equal(await messageOf(worker), 'ready');
  assert.equal(await worker.terminate(), 1);
  await assertNothingLeft();
}

export const scenarios: readonly Scenario[] = [
  {
    name: 'a worker that ends with everything open leaves no descriptor and no mapping',
    async run() {
      assert.equal(await endOf(start('end normally')), 0);
      await assertNothingLeft();
    },
  },
  {
    name: 'a worker that calls process.exit() with everything open leaves nothing, and its exit code is its own',
    async run() {
      assert.equal(await endOf(start('call process.exit')), 7);
      await assertNothingLeft();
    },
  },
  {
    name: 'a worker that throws during a CPU access leaves nothing, and its error reaches the parent',
    async run() {
      const worker = start('throw');
      const errors: Error[] = [];
      worker.on('error', (error: Error) => errors.push(error));
      assert.equal(await endOf(worker), 1);
      assert.deepEqual(
        errors.map(({ message }) => message),
        ['as expected'],
      );
      await assertNothingLeft();
    },
  },
  {
    name: 'a worker that calls process.exit() as a message arrives leaves nothing',
    async run() {
      assert.equal(await endOf(start('call process.exit as a message arrives')), 7);
      await assertNothingLeft();
    },
  },
  {
    name: 'a worker that runs out of memory with everything open leaves nothing, and its error reaches the parent',
    async run() {
      const worker = start('run out of memory', {}, [], { maxOldGenerationSizeMb: 16 });
      const errors: NodeJS.ErrnoException[] = [];
      worker.on('error', (error) => errors.push(error));
      assert.equal(await endOf(worker), 1);
      assert.deepEqual(
        errors.map(({ code }) => code),
        ['ERR_WORKER_OUT_OF_MEMORY'],
      );
      await assertNothingLeft();
    },
  },
  {
    name: 'a worker that is terminated with everything open leaves nothing',
    run: () => terminated('wait'),
  },
  {
    name: 'a worker that is terminated with allocations in flight leaves nothing',
    run: () => terminated('leave allocations in flight'),
  },
  {
    name: 'a worker that is terminated while a thread compresses mapped memory leaves nothing',
    run: () => terminated('leave a compression in flight'),
  },
  {
    name: 'a worker that is terminated while a thread compresses released memory leaves nothing',
    run: () => terminated('release under a compression'),
  },
  {
    name: 'a descriptor number that a worker’s buffer lost to a stranger stays the stranger’s when the worker ends',
    async run() {
      const worker = start('lose a descriptor');
      const [fd] = (await Promise.all([messageOf(worker), endOf(worker)])) as [number, number];
      assert.ok(fstatSync(fd).isCharacterDevice());
      closeSync(fd);
      await assertNothingLeft();
    },
  },
  {
    name: 'several workers use the addon at once without noticing each other',
    async run() {
      const codes = Promise.all([1, 2, 3].map((number) => endOf(start('work independently', { number }))));
      assert.deepEqual(await codes, [0, 0, 0]);
      await assertNothingLeft();
    },
  },
  {
    name: 'memory that a worker gave away may be used after the worker has ended',
    async run() {
      const worker = start('give memory away');
      const bytes = (await messageOf(worker)) as Uint8Array;
      assertFilled(bytes, size, 7);
      await worker.terminate();
      await turns();
      bytes.fill(8);
      assertFilled(bytes, size, 8);
      assert.equal(bufferFds(), 0);
    },
  },
  {
    name: 'memory that a worker gave away and released may be used after the worker has ended',
    async run() {
      const worker = start('give memory away and release it');
      const bytes = (await messageOf(worker)) as Uint8Array;
      await worker.terminate();
      await turns();
      bytes.fill(8);
      assertFilled(bytes, size, 8);
      await assertNothingLeft();
    },
  },
  {
    name: 'memory that a worker gave away goes when its receiver has dropped it',
    async run() {
      const worker = start('give memory away and wait for its end');
      const end = endOf(worker);
      const received = [await messageOf(worker)];
      assertFilled(received[0] as Uint8Array, size, 7);
      received.length = 0;
      let code: number | undefined;
      end.then((value) => {
        code = value;
      });
      await collectUntil(() => mappedRanges() < 3, 'the memory is released');
      assert.equal(await end, 0);
      assert.equal(code, 0);
      await assertNothingLeft();
    },
  },
  {
    name: 'memory that was given to a worker is nobody’s after unmap(), and the worker may go on using it',
    async run() {
      const buffer = allocateSync(size);
      const mapping = buffer.map();
      const bytes = await moveThroughStream(mapping.buffer);
      const worker = start('write to what it was given', { bytes }, [bytes.buffer as ArrayBuffer]);
      await messageOf(worker);
      mapping.unmap();
      const content = new Uint8Array(size).fill(200);
      buffer.write(content);
      await turns(100);
      buffer.read(content);
      assertFilled(content, size, 200);
      await worker.terminate();
      collectGarbage();
      await turns();
      buffer.close();
      await assertNothingLeft();
    },
  },
  {
    name: 'a buffer and a channel go to a worker and back as the numbers of their descriptors',
    async run() {
      const [here, there] = DmaBufChannel.pair();
      const buffer = allocateSync(size);
      const { inode } = buffer;
      const worker = start('adopt and give back', { fd: buffer.release(), channelFd: there.release() });
      const ended = endOf(worker);
      const [fd, channelFd] = (await messageOf(worker)) as [number, number];
      assert.equal(await ended, 0);
      const back = DmaBuf.adopt(fd);
      assert.equal(back.inode, inode);
      const [received] = (await nextOf(here)).handles as [DmaBuf];
      assert.equal(received.inode, inode);
      const content = new Uint8Array(size);
      received.read(content);
      assertFilled(content, size, 9);
      const channel = DmaBufChannel.adopt(channelFd);
      await channel.send('the end that came back');
      assert.equal((await nextOf(here)).handles.length, 0);
      for (const object of [back, received, channel, here]) object.close();
      await assertNothingLeft();
    },
  },
  {
    name: 'workers hand buffers to each other through channels',
    async run() {
      const pairs = Array.from({ length: 4 }, () => DmaBufChannel.pair());
      const [first, last] = [pairs[0]?.[0], pairs[3]?.[1]] as [DmaBufChannel, DmaBufChannel];
      const workers = [0, 1, 2].map((index) =>
        start('pass on what comes', {
          from: pairs[index]?.[1].release(),
          to: pairs[index + 1]?.[0].release(),
        }),
      );
      const codes = Promise.all(workers.map(endOf));
      const buffer = allocateSync(size);
      const rounds = 60; // each adds 3 to a byte
      for (let round = 0; round < rounds; round++) {
        await first.send(`${round}`, [buffer]);
        const { data, handles } = await nextOf(last);
        assert.equal(Buffer.from(data).toString(), `${round}`);
        (handles[0] as DmaBuf).close();
      }
      const byte = new Uint8Array(1);
      buffer.read(byte);
      assert.equal(byte[0], 3 * rounds);
      first.close();
      assert.equal(await last.receive(), undefined); // One tells the next.
      assert.deepEqual(await codes, [0, 0, 0]);
      last.close();
      buffer.close();
      await assertNothingLeft();
    },
  },
  {
    name: 'a worker is terminated while it sends, receives and accepts: its peers are told, and its buffers are gone',
    async run() {
      const [writer, receiving] = DmaBufChannel.pair();
      const [reader, sending] = DmaBufChannel.pair();
      const [sender, ignored] = DmaBufChannel.pair();
      const path = `@dmabuf-worker-${process.pid}`;
      const numbers = { receiving: receiving.release(), sending: sending.release() };
      const data: WaitingChannels = { ...numbers, ignored: ignored.release(), path };
      const worker = start('wait on both sides of channels', data);
      const ended = endOf(worker);
      let client: DmaBufChannel | undefined;
      while (client === undefined) client = await DmaBufChannel.connect(path).catch(() => undefined);
      const waiting = await DmaBufChannel.connect(path); // not accepted, or as the worker is being terminated
      const inodes = (await messageOf(worker)) as number[];
      const calls = Array.from({ length: 6 }, () => {
        const buffer = allocateSync(size);
        inodes.push(buffer.inode);
        const sent = sender.send(new Uint8Array(100_000), [buffer]);
        buffer.close();
        return sent;
      });
      const outcomes = Promise.allSettled(calls);
      const ends = [writer.receive(), client.receive(), waiting.receive()];
      await turns();
      void worker.terminate();
      assert.equal(await ended, 1);
      assert.deepEqual(await Promise.all(ends), [undefined, undefined, undefined]);
      const last = (await outcomes).at(-1) as PromiseRejectedResult;
      assert.equal(last.reason.code, 'EPIPE');
      await assert.rejects(writer.send('anyone?'), { code: 'EPIPE' });
      await assert.rejects(DmaBufChannel.connect(path), { code: 'ECONNREFUSED' });
      // What had left the worker can still be received.
      const [buffer] = (await nextOf(reader)).handles as [DmaBuf];
      assert.equal(buffer.inode, inodes[0]);
      for (const object of [buffer, writer, reader, sender, client, waiting]) object.close();
      if (noKernelList === false) await untilGone(inodes);
      await assertNothingLeft();
    },
  },
  {
    name: `${manyWorkers} workers that are terminated at random moments leave nothing`,
    async run() {
      await terminateAtRandom('do everything over and over');
      await assertNothingLeft();
    },
  },
  {
    name: 'released memory stays harmless when all workers have ended',
    async run() {
      const buffer = allocateSync(size);
      const { bytes } = buffer.map();
      buffer.close();
      await endOf(start('end normally'));
      assertReleased(bytes);
    },
  },
];
