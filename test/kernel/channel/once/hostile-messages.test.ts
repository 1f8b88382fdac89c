import assert from 'node:assert/strict';
import { allocateSync, DmaBufChannel, openHandles } from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import { until } from '../../../support/event-loop.js';
import { rejectsCode } from '../../../support/expect.js';
import { asBuffer, asNumber, closeEach, kindOf } from '../../../support/handles.js';
import { hostileTest, randomNumbers, receiveEnd } from '../../../support/hostile.js';
import { notRoot } from '../../../support/needs.js';
import { kernelHas, noKernelList } from '../../../support/observe.js';
import { receiveFrom, receiveText } from '../../../support/peers.js';

// ---------- what a message may be

hostileTest(
  '3000 messages of random bytes and descriptors arrive as they were sent',
  async (channel, peer) => {
    peer.tell('garbage 4711 3000');
    const random = randomNumbers(4711);
    for (let number = 0; number < 3000; number++) {
      const shape = random();
      const expected = new Uint8Array(shape % 16 === 0 ? shape % 60_000 : shape % 300);
      for (let index = 0; index < expected.length; index++) expected[index] = random();
      const kinds = Array.from({ length: shape % 97 === 0 ? 253 : (shape >>> 16) % 5 }, () =>
        random() % 2 === 1 ? 'DmaBuf' : 'number',
      );
      const { data, handles } = await receiveFrom(channel);
      closeEach(handles);
      assert.equal(Buffer.compare(data, expected), 0, `message ${number}`);
      assert.deepEqual(handles.map(kindOf), kinds, `message ${number}`);
    }
    assert.equal(await peer.line(), 'ok');
  },
);

hostileTest('empty messages are messages, and not the end', async (channel, peer) => {
  await peer.have('empty 3');
  await peer.have('say x');
  const lengths: number[] = [];
  while (lengths.length < 4) lengths.push((await receiveFrom(channel)).data.length);
  assert.deepEqual(lengths, [0, 0, 0, 1]);
});

for (const count of [1, 2, 5]) {
  hostileTest(
    `what follows ${count} empty messages of a peer that has gone is received`,
    async (channel, peer) => {
      await peer.have(`empty ${count}`);
      await peer.have('say x');
      await peer.have('close');
      const lengths: (number | undefined)[] = [];
      while (lengths.length < count + 2) lengths.push((await channel.receive())?.data.length);
      assert.deepEqual(lengths, [...new Array(count).fill(0), 1, undefined]);
    },
  );

  for (const [whose, limit] of [
    ['a channel of its own', undefined],
    ['a channel whose number was told', 'told'],
  ] as const) {
    hostileTest(
      `${count} empty messages before the end are all received, then the end, on ${whose}`,
      async (channel, peer) => {
        if (limit === 'told') assert.ok(channel.fd > 0);
        await peer.have(`empty ${count}`);
        await peer.have('close');
        let received = 0;
        for await (const { data } of channel) {
          assert.equal(data.length, 0);
          received++;
        }
        assert.equal(received, count);
      },
    );
  }
}

hostileTest(
  'a descriptor after empty messages of a peer that has gone is received',
  async (channel, peer) => {
    await peer.have('empty 2');
    await peer.have('send 0 1');
    await peer.have('close');
    let received = 0;
    for await (const { handles } of channel) {
      closeEach(handles);
      received += handles.length;
    }
    assert.equal(received, 1);
  },
);

hostileTest('253 descriptors without data arrive', async (channel, peer) => {
  await peer.have('send 0 253');
  const { data, handles } = await receiveFrom(channel);
  closeEach(handles);
  assert.deepEqual([data.length, handles.length], [0, 253]);
});

hostileTest(
  'more messages full of descriptors than this process may open arrive one by one',
  async (channel, peer) => {
    for (let round = 0; round < 50; round++) {
      await peer.have('send 1 253');
      closeEach((await receiveFrom(channel)).handles);
    }
    assert.equal(openHandles().filter(({ type }) => type === 'DmaBuf').length, 0);
  },
);

for (const [what, bytes, fds] of [
  ['a byte too large', 212_961, 0],
  ['a byte too large, with descriptors', 212_961, 253],
  ['far too large, with descriptors', 1_000_000, 100],
] as const) {
  hostileTest(
    `a message that is ${what} is an error that says its size, and the next one arrives`,
    async (channel, peer) => {
      assert.equal(channel.maxMessageSize, 212_960);
      const refused = rejectsCode(() => channel.receive(), 'ERR_DMABUF_MESSAGE_TRUNCATED');
      await peer.have(`send ${bytes} ${fds}`);
      const error = await refused;
      assert.match(error.message, new RegExp(`it has ${bytes} bytes, .* at most 212960`));
      await peer.have('say next');
      assert.equal(await receiveText(channel), 'next');
    },
    { unless: notRoot },
  );
}

hostileTest(
  'a channel that takes little takes exactly that',
  async (channel, peer) => {
    for (const bytes of [1000, 1001, 1000]) {
      await peer.have(`send ${bytes} 2`);
      if (bytes > 1000) {
        await rejectsCode(() => channel.receive(), 'ERR_DMABUF_MESSAGE_TRUNCATED');
      } else {
        const { data, handles } = await receiveFrom(channel);
        closeEach(handles);
        assert.deepEqual([data.length, handles.length], [bytes, 2]);
      }
    }
  },
  { maxMessageSize: 1000 },
);

hostileTest(
  'a loop over messages ends with the error of one that is too large, and can be begun again',
  async (channel, peer) => {
    const texts: string[] = [];
    const loop = async (): Promise<void> => {
      for await (const { data } of channel) texts.push(Buffer.from(data).toString());
    };
    for (const command of ['say one', 'send 1001 3', 'say two', 'close']) await peer.have(command);
    await rejectsCode(loop, 'ERR_DMABUF_MESSAGE_TRUNCATED');
    await loop();
    assert.deepEqual(texts, ['one', 'two']);
  },
  { maxMessageSize: 1000 },
);

// ---------- control messages

hostileTest('descriptors in several control messages arrive together', async (channel, peer) => {
  assert.equal(await peer.ask('controls 5 7 0'), 'ok');
  const { data, handles } = await receiveFrom(channel);
  closeEach(handles);
  assert.deepEqual([Buffer.from(data).toString(), handles.length], ['controls', 35]);
});

hostileTest(
  'descriptors among credentials and what belongs to other protocols arrive',
  async (channel, peer) => {
    assert.equal(await peer.ask('controls 2 100 1'), 'ok');
    const { data, handles } = await receiveFrom(channel);
    closeEach(handles);
    assert.deepEqual([Buffer.from(data).toString(), handles.length], ['controls', 200]);
  },
);

hostileTest('credentials without descriptors are no handles', async (channel, peer) => {
  assert.equal(await peer.ask('controls 0 0 1'), 'ok');
  assert.equal(await receiveText(channel), 'controls');
});

hostileTest('a socket that a peer has prepared yields every message whole', async (channel, peer) => {
  await peer.have('prepare');
  const { handles } = await receiveFrom(channel);
  using prepared = DmaBufChannel.adopt(asNumber(handles[0]));
  assert.equal(await peer.ask('controls 3 80 1'), 'ok');
  await peer.have('send 100 253');
  await peer.have('say last');
  await peer.have('close');
  const received: [number, number][] = [];
  for await (const message of prepared) {
    closeEach(message.handles);
    received.push([message.data.length, message.handles.length]);
  }
  assert.deepEqual(received, [
    [8, 240],
    [100, 253],
    [4, 0],
  ]);
});

// ---------- sockets in sockets

for (const depth of [1, 2, 3]) {
  hostileTest(`a dma-buf in ${depth} sockets in one another can be taken out`, async (channel, peer) => {
    await peer.have(`nested ${depth}`);
    let { data, handles } = await receiveFrom(channel);
    const inode = Number(Buffer.from(data).toString());
    for (let level = 0; level < depth; level++) {
      using inner = DmaBufChannel.adopt(asNumber(handles[0]));
      ({ data, handles } = await receiveFrom(inner));
      assert.equal(Buffer.from(data).toString(), 'inner');
      await receiveEnd(inner);
    }
    using buffer = asBuffer(handles[0]);
    assert.equal(buffer.inode, inode);
  });

  hostileTest(
    `a dma-buf in ${depth} sockets in one another goes with the outermost`,
    async (channel, peer) => {
      await peer.have(`nested ${depth}`);
      const { data, handles } = await receiveFrom(channel);
      const inode = Number(Buffer.from(data).toString());
      const existed = kernelHas(inode);
      closeEach(handles);
      await peer.finish();
      await until(() => !kernelHas(inode));
      assert.equal(existed, true);
    },
    { unless: noKernelList },
  );
}

hostileTest('sockets 50 deep in one another harm nobody', async (channel, peer) => {
  // Older kernels refuse them to their sender.
  const answer = await peer.ask('nested 50');
  if (answer === 'ok') closeEach((await receiveFrom(channel)).handles);
  else assert.match(answer, /Too many references/);
  await peer.have('say alive');
  assert.equal(await receiveText(channel), 'alive');
});

hostileTest(
  "a peer's own end that it sent is a channel to ourselves once the peer is gone",
  async (channel, peer) => {
    await peer.have("kind the sender's own end");
    const { handles } = await receiveFrom(channel);
    using theirs = DmaBufChannel.adopt(asNumber(handles[0]));
    await peer.finish();
    await theirs.send('from us');
    assert.equal(await receiveText(channel), 'from us');
    theirs.close();
    await receiveEnd(channel);
  },
);

channelTest(
  'both ends of a channel in its own queue go with all that is there, once both are closed',
  async () => {
    const [here, there] = DmaBufChannel.pair();
    const buffer = allocateSync(4096);
    const { inode } = buffer;
    await here.send('cycle', [here.fd, there.fd, buffer]);
    await there.send('cycle', [here.fd, there.fd, buffer]);
    for (const object of [here, there, buffer]) object.close();
    // The kernel looks for such cycles when a socket is closed.
    await until(() => {
      for (const end of DmaBufChannel.pair()) end.close();
      return !kernelHas(inode);
    });
  },
  noKernelList,
);

// ---------- names

hostileTest(
  'names of hostile bytes change nothing else of what is known of a buffer',
  async (channel, peer) => {
    peer.tell('names');
    for (let count = 0; count < 14; count++) {
      const { data, handles } = await receiveFrom(channel);
      using buffer = asBuffer(handles[0]);
      const { exporter, size, inode, name } = buffer.info();
      assert.deepEqual([exporter, size, inode], ['system', 4096, buffer.inode]);
      assert.equal(name, Buffer.from(data).toString());
      const listed = openHandles().find((open) => open.inode === inode);
      assert.deepEqual([listed?.exporter, listed?.size, listed?.name], ['system', 4096, name]);
    }
    assert.equal(await peer.line(), 'ok');
  },
);
