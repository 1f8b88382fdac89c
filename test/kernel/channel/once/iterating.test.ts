import assert from 'node:assert/strict';
import { setMaxListeners } from 'node:events';
import { closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { allocateSync, closeHandles, DmaBufChannel } from 'dmabuf';
import { abstractName } from '../../../support/abstract-name.js';
import type { FlooderData } from '../../../support/channel-flooder.js';
import { channelTest } from '../../../support/channel-test.js';
import { drain, fill, Pair } from '../../../support/channels.js';
import { leavesNothing, openFds } from '../../../support/descriptors.js';
import { turns, watch } from '../../../support/event-loop.js';
import { rejectsCode, rejectsWith, throwsCode } from '../../../support/expect.js';
import { Foreign, text } from '../../../support/foreign-channel.js';
import { allTexts, next, nextText } from '../../../support/messages.js';
import { ForeignSocket } from '../../../support/sockets.js';

// ---- truncation

channelTest(
  'a message above maxMessageSize is dropped with both figures, and the next one is fine',
  async () => {
    using foreign = new Foreign({ maxMessageSize: 10 });
    foreign.peer.send('x'.repeat(11));
    foreign.peer.send('x'.repeat(10));
    const error = await rejectsCode(() => foreign.channel.receive(), 'ERR_DMABUF_MESSAGE_TRUNCATED');
    assert.match(error.message, /11 bytes.* 10 bytes\. /);
    assert.equal(error.syscall, 'recvmsg');
    assert.equal((await nextText(foreign.channel)).length, 10);
  },
);

channelTest('a message far above maxMessageSize says its whole size', async () => {
  using foreign = new Foreign({ maxMessageSize: 10 });
  foreign.peer.send(Buffer.alloc(100_000));
  const error = await rejectsCode(() => foreign.channel.receive(), 'ERR_DMABUF_MESSAGE_TRUNCATED');
  assert.match(error.message, /100000 bytes/);
});

channelTest('the handles of a message that is too large are closed', async () => {
  using foreign = new Foreign({ maxMessageSize: 10 });
  using buffer = allocateSync(4096);
  foreign.peer.send('x'.repeat(11), [buffer.fd, 0, buffer.fd]);
  await leavesNothing(() => rejectsCode(() => foreign.channel.receive(), 'ERR_DMABUF_MESSAGE_TRUNCATED'));
});

channelTest(
  'a message that is too large rejects one call that waits, and the next gets the next',
  async () => {
    using foreign = new Foreign({ maxMessageSize: 10 });
    const first = watch(foreign.channel.receive());
    const second = foreign.channel.receive().then(text);
    foreign.peer.send('x'.repeat(11));
    foreign.peer.send('fine');
    assert.equal(await second, 'fine');
    assert.equal((first.value as { code: string }).code, 'ERR_DMABUF_MESSAGE_TRUNCATED');
  },
);

channelTest(
  'a message that is too large ends an iteration with its error, and the channel stays usable',
  async () => {
    using foreign = new Foreign({ maxMessageSize: 10 });
    foreign.peer.send('x'.repeat(11));
    foreign.peer.send('fine');
    await rejectsCode(() => allTexts(foreign.channel), 'ERR_DMABUF_MESSAGE_TRUNCATED');
    assert.equal(await nextText(foreign.channel), 'fine');
  },
);

channelTest('the last message before the end may be too large', async () => {
  using foreign = new Foreign({ maxMessageSize: 10 });
  foreign.peer.send('x'.repeat(11));
  foreign.peer.close();
  await rejectsCode(() => foreign.channel.receive(), 'ERR_DMABUF_MESSAGE_TRUNCATED');
  assert.equal(await foreign.channel.receive(), undefined);
});

channelTest('a channel with a large maxMessageSize does not change what a small one receives', async () => {
  using small = new Pair({ maxMessageSize: 1000 });
  using large = new Pair({ maxMessageSize: 300_000 });
  await large.here.send(Buffer.alloc(300_000, 'large'));
  await small.here.send('small');
  const first = await next(large.there);
  assert.equal(await nextText(small.there), 'small');
  assert.equal(Buffer.compare(first.data, Buffer.alloc(300_000, 'large')), 0);
});

// ---- iteration

channelTest('an iteration gives every message and ends when the peer is gone', async () => {
  using pair = new Pair();
  const texts = allTexts(pair.there);
  for (const sent of ['one', 'two', 'three']) await pair.here.send(sent);
  pair.here.close();
  assert.deepEqual(await texts, ['one', 'two', 'three']);
});

channelTest('an iteration that waits ends quietly on close()', async () => {
  using pair = new Pair();
  const texts = allTexts(pair.there);
  await pair.here.send('one');
  await turns();
  pair.there.close();
  assert.deepEqual(await texts, ['one']);
});

channelTest('close() from within the loop ends it', async () => {
  using pair = new Pair();
  await pair.here.send('one');
  await pair.here.send('two');
  const seen: string[] = [];
  for await (const { data } of pair.there) {
    seen.push(Buffer.from(data).toString());
    pair.there.close();
  }
  assert.deepEqual(seen, ['one']);
});

channelTest('leaving the loop leaves the channel open, and loses no message', async () => {
  using pair = new Pair();
  for (const sent of ['one', 'two', 'three']) await pair.here.send(sent);
  for await (const { data } of pair.there) {
    assert.equal(Buffer.from(data).toString(), 'one');
    break;
  }
  assert.equal(pair.there.closed, false);
  assert.equal(await nextText(pair.there), 'two');
  for await (const { data } of pair.there) {
    assert.equal(Buffer.from(data).toString(), 'three');
    break;
  }
  await pair.there.send('still open');
});

channelTest('an error in the loop leaves the channel open', async () => {
  using pair = new Pair();
  await pair.here.send('one');
  const error = new Error('mine');
  await rejectsWith(
    (async () => {
      for await (const _ of pair.there) throw error;
    })(),
    error,
  );
  assert.equal(pair.there.closed, false);
});

channelTest("an error in the loop's body after close() is not swallowed", async () => {
  using pair = new Pair();
  await pair.here.send('one');
  const error = new Error('mine');
  await rejectsWith(
    (async () => {
      for await (const _ of pair.there) {
        pair.there.close();
        throw error;
      }
    })(),
    error,
  );
});

channelTest('iterating a closed channel throws', () => {
  using pair = new Pair();
  pair.there.close();
  throwsCode(() => pair.there[Symbol.asyncIterator](), 'ERR_DMABUF_CLOSED');
});

channelTest('an iterator of a channel that was closed before its first step is at its end', async () => {
  using pair = new Pair();
  const iterator = pair.there[Symbol.asyncIterator]();
  pair.there.close();
  assert.deepEqual(await iterator.next(), { done: true, value: undefined });
});

channelTest('two iterations share the messages, each in order, and both end', async () => {
  using pair = new Pair();
  const both = [allTexts(pair.there), allTexts(pair.there)];
  const sent = Array.from({ length: 100 }, (_, index) => String(index).padStart(3, '0'));
  for (const one of sent) await pair.here.send(one);
  pair.here.close();
  const received = await Promise.all(both);
  assert.deepEqual(received.flat().sort(), sent);
  for (const texts of received) assert.deepEqual(texts, [...texts].sort());
});

// ---- fairness

/** Runs `step` over and over; a setImmediate must come in between, again and again. */
async function stepAndTurn(step: () => Promise<unknown>, rounds = 3): Promise<void> {
  const most = 3000;
  for (let round = 0; round < rounds; round++) {
    let immediate = false;
    setImmediate(() => {
      immediate = true;
    });
    for (let steps = 0; !immediate; steps++) {
      assert.ok(steps < most, `the event loop did not turn in ${most} steps`);
      await step();
    }
  }
}

channelTest('a conversation with oneself lets the event loop turn', async () => {
  using pair = new Pair();
  await stepAndTurn(async () => {
    await pair.here.send('x');
    await pair.there.receive();
  });
});

channelTest('a conversation lets timers come', async () => {
  using pair = new Pair();
  let fired = false;
  setTimeout(() => {
    fired = true;
  }, 1);
  for (let steps = 0; !fired; steps++) {
    assert.ok(steps < 1_000_000, 'no timer in a million messages');
    await pair.here.send('x');
    await pair.there.receive();
  }
});

/** A worker that sends messages of so many bytes as fast as it can, until its peer is gone. */
async function flood(bytes: number, handles: number): Promise<{ fd: number; worker: Worker }> {
  const [own, peer] = ForeignSocket.pair();
  const data: FlooderData = { fd: peer.release(), bytes, handles };
  const worker = new Worker(new URL('../../../support/channel-flooder.js', import.meta.url), {
    workerData: data,
  });
  await new Promise((resolve) => worker.once('message', resolve));
  return { fd: own.release(), worker };
}

for (const [what, handles] of [
  ['messages', 0],
  ['messages with handles', 3],
] as const) {
  channelTest(`a flood of ${what} lets the event loop turn`, async () => {
    const { fd, worker } = await flood(1, handles);
    using channel = DmaBufChannel.adopt(fd);
    await stepAndTurn(async () => closeHandles((await next(channel)).handles));
    channel.close();
    await new Promise((resolve) => worker.once('exit', resolve));
  });
}

channelTest('a flood of messages that are too large lets the event loop turn', async () => {
  const { fd, worker } = await flood(2, 0);
  using channel = DmaBufChannel.adopt(fd, { maxMessageSize: 1 });
  await stepAndTurn(() => channel.receive().catch(() => {}), 15);
  channel.close();
  await new Promise((resolve) => worker.once('exit', resolve));
});

channelTest('a flood of connections lets the event loop turn', async () => {
  const name = abstractName();
  using server = DmaBufChannel.listen(name);
  await stepAndTurn(async () => {
    const client = await DmaBufChannel.connect(name);
    (await server.accept()).close();
    client.close();
  });
});

channelTest(
  'a receive that waits in line for the event loop, not for a message, can be aborted',
  async () => {
    using pair = new Pair();
    const controller = new AbortController();
    setMaxListeners(0, controller.signal);
    const outcomes: Promise<string | undefined>[] = [];
    for (let index = 0; index < 2000; index++) {
      await pair.here.send(String(index));
      outcomes.push(pair.there.receive({ signal: controller.signal }).then(text, () => 'aborted'));
    }
    controller.abort();
    const received = await Promise.all(outcomes);
    const aborted = received.filter((one) => one === 'aborted').length;
    const rest: string[] = [];
    for (let index = 0; index < aborted; index++) rest.push(await nextText(pair.there));
    const all = [...received.filter((one) => one !== 'aborted'), ...rest];
    assert.deepEqual(
      all,
      Array.from({ length: 2000 }, (_, index) => String(index)),
    );
  },
);

channelTest('what nobody receives stays in the socket: no descriptor appears in this process', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  const before = openFds().size;
  for (let index = 0; index < 10; index++) await pair.here.send('x', [buffer]);
  assert.equal(openFds().size, before);
  for (let index = 0; index < 10; index++) closeHandles((await next(pair.there)).handles);
});

channelTest('a full socket empties while receive and send alternate', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  await drain(pair.there, taken);
  const again = await fill(pair.here);
  assert.equal(again, taken);
  await drain(pair.there, again);
  closeSync(pair.here.release());
});
