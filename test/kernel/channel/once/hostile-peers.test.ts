import assert from 'node:assert/strict';
import { allocateSync, DmaBufChannel, type Sendable } from 'dmabuf';
import { openFds } from '../../../support/descriptors.js';
import { until } from '../../../support/event-loop.js';
import { rejectsCode } from '../../../support/expect.js';
import { closeEach } from '../../../support/handles.js';
import { hostileTest, randomNumbers, receiveEnd } from '../../../support/hostile.js';
import { kernelHas, noKernelList } from '../../../support/observe.js';
import { patience, receiveFrom, receiveText } from '../../../support/peers.js';

/** Sends until a message has to wait, and returns how many were taken. */
async function sendUntilFull(channel: DmaBufChannel, handles: readonly Sendable[] = []): Promise<number> {
  for (let count = 0; ; count++) {
    try {
      await channel.send(new Uint8Array(8192), handles, { timeout: 0 });
    } catch (error) {
      assert.equal((error as { code: string }).code, 'ETIMEDOUT');
      return count;
    }
  }
}

// ---------- peers that die

for (let seed = 1; seed <= 8; seed++) {
  hostileTest(
    `a peer that is killed while it sends has sent whole messages in order (${seed})`,
    async (channel, peer) => {
      const random = randomNumbers(seed * 7919);
      await peer.have(`flood ${seed}`);
      const killAfter = random() % 400;
      const shapes = randomNumbers(seed);
      let number = 0;
      for await (const { data, handles } of channel) {
        closeEach(handles);
        const words = new Uint32Array(data.buffer, data.byteOffset, data.length / 4);
        assert.deepEqual([words.length, handles.length], [64, shapes() % 8]);
        assert.ok(words.every((word) => word === number));
        if (number++ === killAfter) peer.kill();
      }
      assert.equal(await peer.ended, 'SIGKILL');
      assert.ok(number > killAfter);
    },
  );
}

for (let seed = 1; seed <= 8; seed++) {
  hostileTest(
    `sending to a peer that is killed ends with EPIPE and leaves no buffer (${seed})`,
    async (channel, peer) => {
      const killAfter = randomNumbers(seed * 104_729)() % 200;
      const buffer = allocateSync(4096);
      const { inode } = buffer;
      peer.tell('read 1000000');
      await rejectsCode(async () => {
        for (let number = 0; ; number++) {
          if (number === killAfter) peer.kill();
          await channel.send(new Uint8Array(1000), [buffer, buffer]);
        }
      }, 'EPIPE');
      await peer.ended;
      await receiveEnd(channel);
      buffer.close();
      await until(() => !kernelHas(inode));
    },
    { unless: noKernelList },
  );
}

hostileTest(
  'everything that waits to be sent ends with EPIPE when the peer is killed',
  async (channel, peer) => {
    using buffer = allocateSync(4096);
    await sendUntilFull(channel);
    const waiting = Array.from({ length: 50 }, () => channel.send('more', [buffer, buffer]));
    peer.kill();
    const outcomes = await Promise.allSettled(waiting);
    const codes = outcomes.map((outcome) => (outcome.status === 'rejected' ? outcome.reason.code : 'sent'));
    assert.deepEqual([...new Set(codes)], ['EPIPE']);
  },
);

hostileTest('everything that waits to be received ends when the peer is killed', async (channel, peer) => {
  const waiting = Array.from({ length: 50 }, () => channel.receive({ timeout: patience }));
  peer.kill();
  assert.deepEqual([...new Set(await Promise.all(waiting))], [undefined]);
});

hostileTest('what a killed peer had sent is received, though it never read', async (channel, peer) => {
  await sendUntilFull(channel);
  await peer.have('send 10 5');
  await peer.have('say last');
  peer.kill();
  await peer.ended;
  const { handles } = await receiveFrom(channel);
  closeEach(handles);
  assert.equal(handles.length, 5);
  assert.equal(await receiveText(channel), 'last');
  await receiveEnd(channel);
  await rejectsCode(() => channel.send('x'), 'EPIPE');
});

// ---------- peers that do not read

hostileTest('a message that waits for a peer that never reads ends with its timeout', async (channel) => {
  using buffer = allocateSync(4096);
  await sendUntilFull(channel);
  await rejectsCode(() => channel.send('x', [buffer], { timeout: 1 }), 'ETIMEDOUT');
});

hostileTest(
  "a message that waits for a peer that never reads ends with its signal's reason",
  async (channel) => {
    using buffer = allocateSync(4096);
    await sendUntilFull(channel);
    const controller = new AbortController();
    const reason = new Error('enough');
    const waiting = channel.send('x', [buffer], { signal: controller.signal });
    controller.abort(reason);
    await assert.rejects(waiting, (error) => error === reason);
  },
);

hostileTest(
  'a message that waits for a peer that never reads ends when the channel is closed',
  async (channel) => {
    using buffer = allocateSync(4096);
    await sendUntilFull(channel);
    const refused = rejectsCode(() => channel.send('x', [buffer]), 'ERR_DMABUF_CLOSED');
    channel.close();
    await refused;
  },
);

hostileTest('a message that was given up never arrives', async (channel, peer) => {
  const sent = await sendUntilFull(channel);
  for (let count = 0; count < 20; count++) {
    await rejectsCode(() => channel.send('given up', [], { timeout: 0 }), 'ETIMEDOUT');
  }
  assert.equal(await peer.ask('drain'), String(sent));
});

hostileTest('messages that wait are all sent once the peer reads', async (channel, peer) => {
  using buffer = allocateSync(4096);
  const sent = await sendUntilFull(channel, [buffer]);
  const waiting = Array.from({ length: 200 }, () => channel.send(new Uint8Array(2000), [buffer]));
  assert.equal(await peer.ask(`read ${sent + 200}`), String(sent + 200));
  await Promise.all(waiting);
});

hostileTest('a peer that is stopped delays messages and loses none', async (channel, peer) => {
  peer.kill('SIGSTOP');
  const sent = await sendUntilFull(channel);
  await rejectsCode(() => channel.receive({ timeout: 1 }), 'ETIMEDOUT');
  const waiting = channel.send('x');
  peer.tell(`read ${sent + 1}`);
  peer.kill('SIGCONT');
  await waiting;
  assert.equal(await peer.line(), String(sent + 1));
});

hostileTest('sending for ever to a peer that never reads needs no more and more memory', async (channel) => {
  using buffer = allocateSync(4096);
  await sendUntilFull(channel);
  const attempt = (): Promise<unknown> =>
    rejectsCode(() => channel.send(new Uint8Array(100_000), [buffer, buffer], { timeout: 0 }), 'ETIMEDOUT');
  const inUse = (): number => {
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  for (let count = 0; count < 50; count++) await attempt();
  const early = inUse();
  const fds = openFds().size;
  for (let count = 0; count < 1000; count++) await attempt();
  // 1000 messages of 100 000 bytes would be 100 MB.
  assert.ok(inUse() - early < 50e6, `${inUse() - early} bytes more`);
  await until(() => openFds().size <= fds); // What is closed a little later is waited for.
});

hostileTest('a message for which there is room is sent, whenever the peer reads', async (channel, peer) => {
  // 60 000 bytes are more than a quarter of what the socket holds, and less than half.
  const limit = { timeout: patience / 4 };
  for (let round = 0; round < 400; round++) {
    await channel.send(new Uint8Array(60_000), [], limit);
    await channel.send('2', [], limit);
    await channel.send('3', [], limit);
    assert.equal(await peer.ask('read 3'), '3', `round ${round}`);
  }
});

// ---------- half of a connection

hostileTest('a peer that sends no more can still be sent to', async (channel, peer) => {
  await peer.have('say last');
  await peer.have('shutdown 1');
  assert.equal(await receiveText(channel), 'last');
  await receiveEnd(channel);
  await channel.send('still there');
  assert.equal(await peer.ask('read 1'), '1');
});

hostileTest('a call that waits for a message ends when the peer sends no more', async (channel, peer) => {
  const waiting = channel.receive({ timeout: patience });
  await peer.have('shutdown 1');
  assert.equal(await waiting, undefined);
});

hostileTest('a peer that receives no more can still be received from', async (channel, peer) => {
  await peer.have('shutdown 0');
  await rejectsCode(() => channel.send('x'), 'EPIPE');
  await peer.have('say still here');
  assert.equal(await receiveText(channel), 'still here');
});

// The kernel tells nobody who waits in epoll(7) that the peer receives no more.
hostileTest(
  'a message that waits for a peer that receives no more ends when that goes',
  async (channel, peer) => {
    await sendUntilFull(channel);
    const refused = rejectsCode(() => channel.send('x', [], { timeout: patience }), 'EPIPE');
    await peer.have('shutdown 0');
    await peer.have('close');
    await refused;
  },
);

hostileTest('a message that waits ends with EPIPE when the peer shuts both down', async (channel, peer) => {
  await sendUntilFull(channel);
  const refused = rejectsCode(() => channel.send('x', [], { timeout: patience }), 'EPIPE');
  await peer.have('shutdown 2');
  await refused;
});

hostileTest('what was sent before both halves were shut down is received', async (channel, peer) => {
  await peer.have('send 10 7');
  await peer.have('shutdown 2');
  const { handles } = await receiveFrom(channel);
  closeEach(handles);
  assert.equal(handles.length, 7);
  await receiveEnd(channel);
  await rejectsCode(() => channel.send('x'), 'EPIPE');
});

hostileTest('empty messages before the end of one half are received', async (channel, peer) => {
  await peer.have('empty 3');
  await peer.have('say x');
  await peer.have('shutdown 1');
  const lengths: (number | undefined)[] = [];
  while (lengths.length < 5) lengths.push((await channel.receive())?.data.length);
  assert.deepEqual(lengths, [0, 0, 0, 1, undefined]);
});

// ---------- this process's other work

hostileTest('a peer that floods does not keep other work from being done', async (channel, peer) => {
  await peer.have('flood 1');
  let turns = 0;
  let running = true;
  const turn = (): void => {
    turns++;
    if (running) setImmediate(turn);
  };
  setImmediate(turn);
  for (let number = 0; number < 5000; number++) closeEach((await receiveFrom(channel)).handles);
  running = false;
  assert.ok(turns >= 5, `the event loop turned ${turns} times in 5000 messages`);
});

hostileTest('another channel works while a peer floods', async (channel, peer) => {
  await peer.have('flood 2');
  const [here, there] = DmaBufChannel.pair();
  using buffer = allocateSync(4096);
  let flooded = 0;
  const drained = (async () => {
    for await (const { handles } of channel) {
      closeEach(handles);
      flooded++;
    }
  })();
  for (let number = 0; number < 200; number++) {
    const received = there.receive();
    await here.send(`${number}`, [buffer]);
    const message = await received;
    closeEach(message?.handles ?? []);
    assert.equal(Buffer.from(message?.data ?? []).toString(), `${number}`);
  }
  here.close();
  there.close();
  peer.kill();
  await drained;
  assert.ok(flooded > 0);
});
