import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { allocateSync, closeHandles, type DmaBuf, DmaBufChannel, SyncFile } from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import { Pair } from '../../../support/channels.js';
import { turns, until, watch } from '../../../support/event-loop.js';
import { rejectsCode, rejectsWith } from '../../../support/expect.js';
import { text } from '../../../support/foreign-channel.js';
import { next, nextText } from '../../../support/messages.js';
import { OwnedFd } from '../../../support/sockets.js';

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
  assert.deepEqual({ ...message }, { data: Uint8Array.of(100, 97, 116, 97), handles: [] });
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

channelTest('buffers has the dma-bufs among the handles', async () => {
  using pair = new Pair();
  using one = allocateSync(4096);
  using other = allocateSync(4096);
  using file = new OwnedFd(openSync('/dev/null', 'r'));
  await pair.here.send('x', [one, file.fd, other]);
  using message = await next(pair.there);
  assert.deepEqual(
    message.buffers.map(({ inode }) => inode),
    [one.inode, other.inode],
  );
  assert.equal(message.buffers[1], message.handles[2]);
});

channelTest('disposing a message closes the handles that are in it', async () => {
  using pair = new Pair();
  using sent = allocateSync(4096);
  using fences = sent.exportSyncFile('read');
  using file = new OwnedFd(openSync('/dev/null', 'r'));
  await pair.here.send('x', [sent, fences, file.fd, sent]);
  const message = await next(pair.there);
  const kept = message.handles.pop();
  const [buffer] = message.buffers;
  message[Symbol.dispose]();
  message[Symbol.dispose]();
  assert.equal(buffer?.closed, true);
  assert.deepEqual(message.handles, []);
  closeHandles([kept as DmaBuf]);
});
