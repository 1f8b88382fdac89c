import assert from 'node:assert/strict';
import { setMaxListeners } from 'node:events';
import { closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import {
  allocateSync,
  type ChannelMessage,
  closeHandles,
  type DmaBuf,
  DmaBufChannel,
  SyncFile,
} from 'dmabuf';
import { abstractName } from '../../../support/abstract-name.js';
import type { FlooderData } from '../../../support/channel-flooder.js';
import { channelTest } from '../../../support/channel-test.js';
import { adopt, drain, fill, Pair } from '../../../support/channels.js';
import { leavesNothing, openFds } from '../../../support/descriptors.js';
import { turns, until, watch } from '../../../support/event-loop.js';
import { rejectsCode, rejectsWith, throwsCode } from '../../../support/expect.js';
import { allTexts, next, nextText } from '../../../support/messages.js';
import { ForeignSocket } from '../../../support/sockets.js';

/** A channel, and the foreign program at its other end. */
class Foreign implements Disposable {
  readonly channel: DmaBufChannel;
  readonly peer: ForeignSocket;

  constructor(options?: { maxMessageSize?: number }, prepare?: (own: ForeignSocket) => void) {
    const [own, peer] = ForeignSocket.pair();
    prepare?.(own);
    this.channel = adopt(own, options);
    this.peer = peer;
  }

  [Symbol.dispose](): void {
    this.channel.close();
    this.peer.close();
  }
}

const text = (message: ChannelMessage | undefined): string | undefined =>
  message && Buffer.from(message.data).toString();

// ---- waiting

channelTest('receive() waits for a message, and the event loop turns meanwhile', async () => {
  using pair = new Pair();
  const receiving = watch(pair.there.receive().then(text));
  await turns(20);
  assert.equal(receiving.state, 'pending');
  await pair.here.send('x');
  await until(() => receiving.state === 'fulfilled');
  assert.equal(receiving.value, 'x');
});

channelTest('a message that is there already is received without waiting', async () => {
  using pair = new Pair();
  await pair.here.send('x');
  const receiving = watch(pair.there.receive().then(text));
  await Promise.resolve();
  await Promise.resolve();
  await Promise.resolve();
  assert.equal(receiving.value, 'x');
});

channelTest('data is a plain Uint8Array of the length of the message', async () => {
  using pair = new Pair();
  await pair.here.send(Buffer.from('data'));
  const message = await next(pair.there);
  assert.equal(Object.getPrototypeOf(message.data), Uint8Array.prototype);
  assert.deepEqual(message, { data: Uint8Array.of(100, 97, 116, 97), handles: [] });
});

channelTest('calls that wait are served in their order', async () => {
  using pair = new Pair();
  const receiving = ['a', 'b', 'c'].map(() => pair.there.receive().then(text));
  for (const sent of ['one', 'two', 'three']) await pair.here.send(sent);
  assert.deepEqual(await Promise.all(receiving), ['one', 'two', 'three']);
});

channelTest('a call that comes when messages are there does not overtake one that waits', async () => {
  using pair = new Pair();
  const first = pair.there.receive().then(text);
  await pair.here.send('one');
  await pair.here.send('two');
  const second = pair.there.receive().then(text);
  assert.deepEqual([await first, await second], ['one', 'two']);
});

channelTest('1000 calls that nobody awaits get 1000 messages in order', async () => {
  using pair = new Pair();
  const receiving = Array.from({ length: 1000 }, () => pair.there.receive().then(text));
  for (let index = 0; index < 1000; index++) await pair.here.send(String(index));
  assert.deepEqual(
    await Promise.all(receiving),
    Array.from({ length: 1000 }, (_, index) => String(index)),
  );
});

channelTest('a message with handles arrives whole after waiting', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  using file = buffer.exportSyncFile('read');
  const receiving = pair.there.receive();
  await pair.here.send('x', [file, buffer, 0, file]);
  const handles = (await receiving)?.handles ?? [];
  const kinds = handles.map((handle) => (typeof handle === 'number' ? 'number' : handle.constructor.name));
  assert.deepEqual(kinds, ['SyncFile', 'DmaBuf', 'number', 'SyncFile']);
  assert.ok(handles[0] instanceof SyncFile && handles[0].status === 'signaled');
  closeHandles(handles);
});

channelTest('both ends can wait for each other at the same time', async () => {
  using pair = new Pair();
  const receiving = [pair.here, pair.there].map((end) => end.receive().then(text));
  await pair.there.send('to here');
  await pair.here.send('to there');
  assert.deepEqual(await Promise.all(receiving), ['to here', 'to there']);
});

// ---- ends of waiting

channelTest('an abort ends a receive that waits, with the very reason', async () => {
  using pair = new Pair();
  const controller = new AbortController();
  const reason = { my: 'reason' };
  const receiving = pair.there.receive({ signal: controller.signal });
  controller.abort(reason);
  await rejectsWith(receiving, reason);
});

channelTest('after an abort the next receive gets the message', async () => {
  using pair = new Pair();
  const controller = new AbortController();
  const receiving = pair.there.receive({ signal: controller.signal });
  controller.abort(new Error('enough'));
  await pair.here.send('x');
  await assert.rejects(receiving, { message: 'enough' });
  assert.equal(await nextText(pair.there), 'x');
});

channelTest('an abort when the message has come already loses no message', async () => {
  using pair = new Pair();
  const controller = new AbortController();
  const receiving = watch(pair.there.receive({ signal: controller.signal }).then(text));
  await pair.here.send('one');
  controller.abort(new Error('enough'));
  await until(() => receiving.state !== 'pending');
  await pair.here.send('two');
  const expected = receiving.state === 'fulfilled' ? 'two' : 'one';
  assert.equal(await nextText(pair.there), expected);
});

channelTest('an abort of the first in line leaves its message to the second', async () => {
  using pair = new Pair();
  const controller = new AbortController();
  const first = pair.there.receive({ signal: controller.signal });
  const second = pair.there.receive().then(text);
  controller.abort(new Error('enough'));
  await assert.rejects(first, { message: 'enough' });
  await pair.here.send('x');
  assert.equal(await second, 'x');
});

channelTest('an abort of the second in line takes no message', async () => {
  using pair = new Pair();
  const controller = new AbortController();
  const first = pair.there.receive().then(text);
  const second = pair.there.receive({ signal: controller.signal });
  const third = pair.there.receive().then(text);
  controller.abort(new Error('enough'));
  await assert.rejects(second, { message: 'enough' });
  await pair.here.send('one');
  await pair.here.send('two');
  assert.deepEqual([await first, await third], ['one', 'two']);
});

channelTest('an abort from within what follows the message before it loses nothing', async () => {
  using pair = new Pair();
  const controller = new AbortController();
  const first = pair.there.receive().then(() => controller.abort(new Error('enough')));
  const second = watch(pair.there.receive({ signal: controller.signal }).then(text));
  await pair.here.send('one');
  await pair.here.send('two');
  await first;
  await until(() => second.state !== 'pending');
  await pair.here.send('three');
  assert.equal(await nextText(pair.there), second.state === 'fulfilled' ? 'three' : 'two');
});

channelTest('a signal that has aborted already takes no message', async () => {
  using pair = new Pair();
  await pair.here.send('x');
  const reason = new Error('too late');
  await rejectsWith(pair.there.receive({ signal: AbortSignal.abort(reason) }), reason);
  assert.equal(await nextText(pair.there), 'x');
});

channelTest(
  'a receive that waits too long rejects with ETIMEDOUT, and the next one gets the message',
  async () => {
    using pair = new Pair();
    const error = await rejectsCode(() => pair.there.receive({ timeout: 20 }), 'ETIMEDOUT');
    assert.match(error.message, /waiting for a message.*20 ms/);
    await pair.here.send('x');
    assert.equal(await nextText(pair.there), 'x');
  },
);

channelTest('with timeout 0 a message that is there is received, and none is ETIMEDOUT', async () => {
  using pair = new Pair();
  await pair.here.send('x');
  assert.equal(text(await pair.there.receive({ timeout: 0 })), 'x');
  await rejectsCode(() => pair.there.receive({ timeout: 0 }), 'ETIMEDOUT');
});

channelTest('with timeout 0 every message that is there is received, however many', async () => {
  using pair = new Pair();
  for (let index = 0; index < 3000; index++) {
    await pair.here.send(String(index));
    const receiving = pair.there.receive({ timeout: 0 });
    // Around where it lets the event loop turn, the process is busy for longer than a timer of 0 ms takes.
    if ((index + 8) % 1024 < 16) blockFor(2);
    assert.equal(text(await receiving), String(index));
  }
});

function blockFor(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

channelTest('close() rejects every receive that waits', async () => {
  using pair = new Pair();
  const receiving = Promise.allSettled([pair.here.receive(), pair.here.receive()]);
  pair.here.close();
  for (const outcome of await receiving) {
    assert.equal((outcome as PromiseRejectedResult).reason.code, 'ERR_DMABUF_CLOSED');
  }
});

channelTest('release() rejects a receive that waits, and takes no message', async () => {
  using pair = new Pair();
  const receiving = watch(pair.there.receive());
  const fd = pair.there.release();
  await pair.here.send('x');
  await until(() => receiving.state === 'rejected');
  assert.equal((receiving.value as { code: string }).code, 'ERR_DMABUF_CLOSED');
  using adopted = DmaBufChannel.adopt(fd);
  assert.equal(await nextText(adopted), 'x');
});

channelTest('a closed channel refuses to receive', async () => {
  using pair = new Pair();
  await pair.here.send('x');
  pair.there.close();
  await rejectsCode(() => pair.there.receive(), 'ERR_DMABUF_CLOSED');
});

channelTest('an error after waiting has the caller in its stack', async () => {
  using pair = new Pair();
  async function callerOfReceive(): Promise<void> {
    await pair.there.receive({ timeout: 1 });
  }
  assert.match((await rejectsCode(callerOfReceive, 'ETIMEDOUT')).stack ?? '', /callerOfReceive/);
});

channelTest('of two calls that are rejected together each has its own caller in its stack', async () => {
  using pair = new Pair();
  async function firstCaller(): Promise<void> {
    await pair.there.receive();
  }
  async function secondCaller(): Promise<void> {
    await pair.there.receive();
  }
  const outcomes = Promise.allSettled([firstCaller(), secondCaller()]);
  pair.there.close();
  const [first, second] = (await outcomes) as [PromiseRejectedResult, PromiseRejectedResult];
  assert.match(first.reason.stack, /firstCaller/);
  assert.match(second.reason.stack, /secondCaller/);
});

channelTest('a wait leaves no listener on its signal', async () => {
  using pair = new Pair();
  const controller = new AbortController();
  let listeners = 0;
  const { signal } = controller;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = function (this: AbortSignal, ...args: Parameters<typeof addEventListener>) {
    listeners++;
    addEventListener.apply(this, args);
  } as typeof addEventListener;
  signal.removeEventListener = function (this: AbortSignal, ...args: Parameters<typeof removeEventListener>) {
    listeners--;
    removeEventListener.apply(this, args);
  } as typeof removeEventListener;
  const receiving = pair.there.receive({ signal });
  await pair.here.send('x');
  await receiving;
  assert.equal(listeners, 0);
});

// ---- the end

channelTest('when the peer is gone, what it sent is received, then undefined, again and again', async () => {
  using pair = new Pair();
  await pair.here.send('one');
  await pair.here.send('two');
  pair.here.close();
  assert.equal(await nextText(pair.there), 'one');
  assert.equal(await nextText(pair.there), 'two');
  for (let round = 0; round < 3; round++) assert.equal(await pair.there.receive(), undefined);
});

channelTest('calls that wait when the peer goes all get undefined', async () => {
  using pair = new Pair();
  const receiving = [pair.there.receive(), pair.there.receive(), pair.there.receive()];
  pair.here.close();
  assert.deepEqual(await Promise.all(receiving), [undefined, undefined, undefined]);
});

channelTest('of calls that wait when the peer sends and goes, one gets the message', async () => {
  using pair = new Pair();
  const receiving = [1, 2, 3].map(() => pair.there.receive().then(text));
  await pair.here.send('x');
  pair.here.close();
  assert.deepEqual(await Promise.all(receiving), ['x', undefined, undefined]);
});

for (const waits of [false, true]) {
  const when = waits ? 'while it is waited for' : 'before it is asked';
  channelTest(
    `a peer that dies with unread messages ${when}: what it sent is received, then undefined`,
    async () => {
      using pair = new Pair();
      await pair.there.send('never read');
      const receiving = waits ? [1, 2].map(() => pair.there.receive().then(text)) : [];
      if (!waits) await pair.here.send('last words');
      else await pair.here.send('last words');
      pair.here.close();
      if (!waits) receiving.push(...[1, 2].map(() => pair.there.receive().then(text)));
      assert.deepEqual(await Promise.all(receiving), ['last words', undefined]);
    },
  );
}

channelTest(
  'a peer that dies with unread messages ends a send and a receive that wait, with EPIPE and undefined',
  async () => {
    using pair = new Pair();
    await fill(pair.there);
    const sending = pair.there.send('x');
    const receiving = pair.there.receive();
    pair.here.close();
    await rejectsCode(() => sending, 'EPIPE');
    assert.equal(await receiving, undefined);
  },
);

channelTest(
  'a peer that sent, and dies with unread messages while both directions wait, is heard',
  async () => {
    using pair = new Pair();
    await fill(pair.there);
    const sending = watch(pair.there.send('x'));
    const receiving = [1, 2].map(() => pair.there.receive().then(text));
    await turns();
    await pair.here.send('last words');
    pair.here.close();
    assert.deepEqual(await Promise.all(receiving), ['last words', undefined]);
    await until(() => sending.state === 'rejected');
    assert.equal((sending.value as { code: string }).code, 'EPIPE');
  },
);

channelTest('the end comes after handles of messages too', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  await pair.here.send('x', [buffer]);
  pair.here.close();
  const { handles } = await next(pair.there);
  assert.equal((handles[0] as DmaBuf).inode, buffer.inode);
  closeHandles(handles);
  assert.equal(await pair.there.receive(), undefined);
});

channelTest('a channel whose peer is gone can be adopted, and gives what was sent', async () => {
  using pair = new Pair();
  await pair.here.send('x');
  pair.here.close();
  using adopted = DmaBufChannel.adopt(pair.there.release());
  assert.equal(await nextText(adopted), 'x');
  assert.equal(await adopted.receive(), undefined);
});

// ---- foreign programs

channelTest('an empty message of another program is delivered as such', async () => {
  using foreign = new Foreign();
  foreign.peer.send('');
  const { data, handles } = await next(foreign.channel);
  assert.deepEqual([data.length, handles.length], [0, 0]);
  foreign.peer.send('after');
  assert.equal(await nextText(foreign.channel), 'after');
});

channelTest('an empty message is delivered after waiting too', async () => {
  using foreign = new Foreign();
  const receiving = foreign.channel.receive();
  foreign.peer.send('');
  assert.equal((await receiving)?.data.length, 0);
});

const emptySequences: readonly string[][] = [
  ['', 'data'],
  ['', '', 'data'],
  ['', '', '', 'data', '', 'data'],
  ['data', '', '', 'data'],
  [''],
  ['', ''],
  ['data', ''],
  ['data', '', '', ''],
];
for (const sequence of emptySequences) {
  channelTest(
    `${JSON.stringify(sequence)} of a program that is gone arrives whole, then the end`,
    async () => {
      using foreign = new Foreign();
      for (const sent of sequence) foreign.peer.send(sent);
      foreign.peer.close();
      const received: (string | undefined)[] = [];
      for (let index = 0; index <= sequence.length; index++)
        received.push(text(await foreign.channel.receive()));
      assert.deepEqual(received, [...sequence, undefined]);
    },
  );
}

channelTest('an empty message before one with handles only is not taken for the end', async () => {
  using foreign = new Foreign();
  foreign.peer.send('');
  foreign.peer.send('', [0]);
  foreign.peer.close();
  assert.equal((await next(foreign.channel)).handles.length, 0);
  const { handles } = await next(foreign.channel);
  assert.equal(handles.length, 1);
  closeHandles(handles);
  assert.equal(await foreign.channel.receive(), undefined);
});

for (const [what, option] of [
  ['credentials', 'passCredentials'],
  ['a pidfd', 'passPidfd'],
  ['a time stamp', 'timestamp'],
] as const) {
  channelTest(`${what} that an adopted socket asks for does not become a handle`, async () => {
    using foreign = new Foreign({}, (own) => own.setOption(option, 1));
    using buffer = allocateSync(4096);
    foreign.peer.send('without');
    foreign.peer.send('with', new Array(253).fill(buffer.fd));
    const without = await next(foreign.channel);
    assert.deepEqual([text(without), without.handles.length], ['without', 0]);
    const { handles } = await next(foreign.channel);
    assert.equal(handles.length, 253);
    closeHandles(handles);
    foreign.peer.close();
    assert.equal(await foreign.channel.receive(), undefined);
  });
}

for (const offset of [1, 5, 1000]) {
  channelTest(
    `who also holds an adopted end may have looks at it begin at ${offset} bytes: every message is received`,
    async () => {
      using foreign = new Foreign({}, (own) => own.setOption('peekOffset', offset));
      using buffer = allocateSync(4096);
      const receiving = watch(foreign.channel.receive().then(text));
      await turns(20);
      foreign.peer.send('later');
      await until(() => receiving.state === 'fulfilled');
      assert.equal(receiving.value, 'later');
      foreign.peer.send('first', [buffer.fd]);
      foreign.peer.send('second');
      const first = await next(foreign.channel);
      assert.deepEqual([text(first), first.handles.length], ['first', 1]);
      closeHandles(first.handles);
      assert.equal(await nextText(foreign.channel), 'second');
      foreign.peer.close();
      assert.equal(await foreign.channel.receive(), undefined);
    },
  );
}

channelTest('what another program shuts down for writing is the end', async () => {
  using foreign = new Foreign();
  foreign.peer.send('x');
  foreign.peer.shutDown('write');
  assert.equal(await nextText(foreign.channel), 'x');
  assert.equal(await foreign.channel.receive(), undefined);
  assert.equal(await foreign.channel.receive(), undefined);
});

channelTest('a socket that does not block works like any other', async () => {
  const [own, peer] = ForeignSocket.pair();
  // O_NONBLOCK, as a program that uses libuv leaves it.
  using waited = adopt(own);
  const receiving = waited.receive();
  peer.send('x');
  await receiving;
  using again = DmaBufChannel.adopt(waited.release());
  const more = again.receive();
  peer.send('y');
  assert.equal(text(await more), 'y');
  peer.close();
});

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
