import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { allocateSync, openHandles } from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import { openFds, openNull, takeDescriptors } from '../../../support/descriptors.js';
import { collectUntil, turns, until } from '../../../support/event-loop.js';
import { rejectsCode } from '../../../support/expect.js';
import { asBuffer, closeEach, kindOf } from '../../../support/handles.js';
import { randomNumbers } from '../../../support/hostile.js';
import { kernelHas, noKernelList } from '../../../support/observe.js';
import {
  adoptedPair,
  allBytes,
  closed,
  ForeignStream,
  failure,
  fillStream,
  hostileStreamTest,
  nextBytes,
  nextBytesAsText,
  StreamPair,
  takeAll,
} from '../../../support/streams.js';

// ---------- floods

hostileStreamTest('a flood of descriptors that nobody takes is ended by an error', async (stream, peer) => {
  const failed = failure(stream);
  await peer.have('flood 1');
  stream.resume();
  assert.equal((await failed).code, 'ERR_DMABUF_TOO_MANY_HANDLES');
  assert.equal(await peer.ended, 0); // It got EPIPE.
});

hostileStreamTest(
  'a flood whose descriptors are taken goes on, and other work is done',
  async (stream, peer) => {
    await peer.have('flood 2');
    let received = 0;
    stream.on('data', (chunk: Buffer) => {
      received += chunk.length;
      closeEach(takeAll(stream));
    });
    await until(() => received > 256 * 2000);
    assert.equal(stream.destroyed, false);
  },
);

hostileStreamTest('a flood by receive() keeps other work from nothing', async (stream, peer) => {
  await peer.have('flood 3');
  let count = 0;
  let running = true;
  const turn = (): void => {
    count++;
    if (running) setImmediate(turn);
  };
  setImmediate(turn);
  for (let number = 0; number < 4000; number++) closeEach((await nextBytes(stream)).handles);
  running = false;
  assert.ok(count >= 3, `the event loop turned ${count} times`);
});

hostileStreamTest('random bytes and descriptors arrive as they were sent', async (stream, peer) => {
  peer.tell('garbage 4711 1000');
  const random = randomNumbers(4711);
  const bytes: number[] = [];
  const kinds: string[] = [];
  for (let number = 0; number < 1000; number++) {
    const shape = random();
    const length = shape % 16 === 0 ? shape % 60_000 : shape % 300;
    for (let index = 0; index < length; index++) bytes.push(random() & 255);
    const count = shape % 97 === 0 ? 253 : (shape >>> 16) % 5;
    const own = Array.from({ length: count }, () => (random() % 2 === 1 ? 'DmaBuf' : 'number'));
    // Without a byte, nothing could carry them.
    if (length > 0) kinds.push(...own);
  }
  const received: Uint8Array[] = [];
  let left = bytes.length;
  const arrived: string[] = [];
  while (left > 0) {
    const { data, handles } = await nextBytes(stream);
    arrived.push(...handles.map(kindOf));
    closeEach(handles);
    received.push(data);
    left -= data.length;
  }
  assert.equal(Buffer.compare(Buffer.concat(received), Uint8Array.from(bytes)), 0);
  assert.deepEqual(arrived, kinds);
  assert.equal(await peer.line(), 'ok');
});

// ---------- peers that go

hostileStreamTest('what a killed peer had sent is received, though it never read', async (stream, peer) => {
  await fillStream(stream);
  await peer.have('send 10 5');
  await peer.have('say last');
  const failed = failure(stream);
  peer.kill();
  await peer.ended;
  assert.equal((await failed).code, 'EPIPE'); // The bytes that waited.
  assert.equal(stream.fd, -1);
});

hostileStreamTest(
  'a peer that goes in the middle of what it sends has sent all that arrives',
  async (stream, peer) => {
    await peer.have('flood 5');
    let length = 0;
    for (let number = 0; number < 100; number++) {
      const { data, handles } = await nextBytes(stream);
      closeEach(handles);
      length += data.length;
    }
    peer.kill();
    const [rest] = await allBytes(stream);
    assert.equal((length + rest.length) % 256, 0);
  },
);

hostileStreamTest(
  'sending to a peer that is killed ends with EPIPE and leaves no buffer',
  async (stream, peer) => {
    const buffer = allocateSync(4096);
    const { inode } = buffer;
    peer.tell('read 1000000');
    await rejectsCode(async () => {
      for (let number = 0; ; number++) {
        const sending = stream.send(new Uint8Array(10_000), [buffer]);
        if (number === 30) peer.kill();
        await sending;
      }
    }, 'EPIPE');
    buffer.close();
    stream.destroy();
    await until(() => !kernelHas(inode));
  },
  { unless: noKernelList },
);

hostileStreamTest(
  'a peer that receives no more, or ends, can still be received from, or sent to',
  async (stream, peer) => {
    await peer.have('shutdown 0');
    await rejectsCode(() => stream.send('x'), 'EPIPE');
    await peer.have('say still here');
    assert.equal(await nextBytesAsText(stream), 'still here');
    await peer.have('shutdown 1');
    assert.equal(await stream.receive(), undefined);
  },
);

// ---------- control messages, and bytes out of band

hostileStreamTest(
  'descriptors in several control messages, among credentials, arrive together',
  async (stream, peer) => {
    await peer.have('controls 2 100 1');
    const { data, handles } = await nextBytes(stream);
    closeEach(handles);
    assert.deepEqual([Buffer.from(data).toString(), handles.length], ['controls', 200]);
  },
);

hostileStreamTest(
  'a byte out of band is a byte like any other, and its descriptors arrive',
  async (stream, peer) => {
    const answer = await peer.ask('urgent 5 3');
    if (answer !== 'ok') return; // A kernel without them.
    await peer.have('say after');
    await peer.have('close');
    assert.deepEqual(await allBytes(stream), ['uuuuuafter', 3]);
  },
);

hostileStreamTest("a peer's own end in its own queue goes with it", async (stream, peer) => {
  await peer.have("kind the sender's own end");
  await peer.have('say x');
  await until(() => stream.destroyed || peer.unread.length === 0);
  stream.destroy();
  await peer.finish();
});

// ---------- descriptors that were not taken

for (const how of ['in the queue', 'read ahead', 'received by nobody'] as const) {
  channelTest(
    `descriptors that are ${how} are closed with the stream`,
    async () => {
      using pair = new StreamPair();
      const buffer = allocateSync(4096);
      const { inode } = buffer;
      await pair.here.send('x', [buffer]);
      buffer.close();
      if (how === 'read ahead') await once(pair.there, 'readable');
      if (how === 'received by nobody') pair.there.resume();
      await turns();
      assert.ok(kernelHas(inode));
      pair.there.destroy();
      await until(() => !kernelHas(inode));
    },
    noKernelList,
  );
}

channelTest(
  'a stream that is lost is closed when it is collected, with the descriptors that nobody took, and a warning',
  async () => {
    const buffer = allocateSync(4096);
    const { inode } = buffer;
    let warning = '';
    const onWarning = (text: Error): void => {
      warning += text.message;
    };
    process.on('warning', onWarning);
    using foreign = await (async () => {
      const lost = new ForeignStream();
      lost.peer.send('x', [buffer.fd]);
      await once(lost.stream, 'readable');
      lost.stream.read();
      const { peer } = lost;
      return { peer, [Symbol.dispose]: () => peer.close() };
    })();
    // Ends the stream's read: a stream that waits is not lost.
    foreign.peer.shutDown('write');
    buffer.close();
    await collectUntil(() => !kernelHas(inode));
    await turns();
    process.off('warning', onWarning);
    assert.match(warning, /^An FdStream was garbage-collected without close\(\)/);
  },
  noKernelList,
);

channelTest(
  'a worker that ends closes its streams, and the descriptors that nobody took',
  async () => {
    using pair = new StreamPair();
    const buffer = allocateSync(4096);
    const { inode } = buffer;
    const code = `
      const { parentPort, workerData } = require('node:worker_threads');
      const { FdStream } = require('dmabuf');
      const stream = FdStream.adopt(workerData);
      stream.once('readable', () => parentPort.postMessage('there'));
    `;
    const worker = new Worker(code, { eval: true, workerData: pair.there.release() });
    await pair.here.send('x', [buffer]);
    buffer.close();
    await once(worker, 'message');
    await worker.terminate();
    await until(() => !kernelHas(inode));
    assert.equal(await pair.here.receive(), undefined);
  },
  noKernelList,
);

// ---------- no descriptor left

// One test, since to take all descriptors takes time.
channelTest('without free descriptors nothing is lost and nothing leaks', async () => {
  using exact = new StreamPair();
  using plain = new StreamPair();
  using many = new StreamPair();
  using duplex = new StreamPair();
  using buffer = allocateSync(4096);
  await exact.here.send('before');
  await exact.here.send('x', [buffer, buffer, buffer]);
  await exact.here.send('after');
  await plain.here.send('plain');
  await many.here.send('x', new Array(20).fill(buffer));
  await duplex.here.send('x', [buffer]);
  const failed = failure(duplex.there);
  const taken = takeDescriptors();
  try {
    // receive() reports it, and the bytes stay in the socket; bytes alone need no descriptor.
    const error = await rejectsCode(() => exact.there.receive(), 'EMFILE');
    assert.match(error.message, /nothing was lost/);
    assert.equal(await nextBytesAsText(plain.there), 'plain');
    duplex.there.resume();
    assert.equal((await failed).code, 'EMFILE');
    for (const fd of taken.splice(0, 2)) closeSync(fd);
    await rejectsCode(() => many.there.receive(), 'EMFILE');
    // With as many free descriptors as arrive, they are received.
    for (const fd of taken.splice(0, 22)) closeSync(fd);
    const { handles } = await nextBytes(many.there);
    closeEach(handles);
    assert.equal(handles.length, 20);
  } finally {
    for (const fd of taken) closeSync(fd);
  }
  const { data, handles } = await nextBytes(exact.there);
  assert.deepEqual(
    handles.map((handle) => asBuffer(handle).inode),
    [buffer.inode, buffer.inode, buffer.inode],
  );
  closeEach(handles);
  assert.equal(`${Buffer.from(data)}${await nextBytesAsText(exact.there)}`, 'beforexafter');
});

// ---------- peers that are slow

channelTest('destroying a stream whose peer is slow gives up what waits, and its descriptors', async () => {
  const [here, there] = adoptedPair(1);
  const null_ = openNull();
  const sending = Array.from({ length: 20 }, () => here.send(new Uint8Array(50_000), [null_]));
  closeSync(null_);
  here.destroy();
  const outcomes = await Promise.allSettled(sending);
  assert.ok(outcomes.every((outcome) => outcome.status === 'rejected'));
  there.destroy();
  await Promise.all([closed(here), closed(there)]);
  assert.deepEqual(openHandles(), []);
});

hostileStreamTest('a write that waits for ever needs no more and more memory', async (stream) => {
  using buffer = allocateSync(4096);
  await fillStream(stream);
  const fds = openFds().size;
  const sending = Array.from({ length: 50 }, () => stream.send('x', [buffer]).catch(() => {}));
  await turns();
  stream.destroy();
  await Promise.all(sending);
  await until(() => openFds().size <= fds);
});
