import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { allocateSync, closeHandles } from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import { adopt, drain, fill, Pair } from '../../../support/channels.js';
import { openFds } from '../../../support/descriptors.js';
import { turns, until, watch } from '../../../support/event-loop.js';
import { rejectsCode, rejectsWith, unsound } from '../../../support/expect.js';
import { next, nextText } from '../../../support/messages.js';
import { assertNothingSent } from '../../../support/sending.js';
import { ForeignSocket } from '../../../support/sockets.js';

// ---- back-pressure

channelTest('send() resolves only when the kernel has taken the message', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  const sending = watch(pair.here.send('last'));
  await turns(20);
  assert.equal(sending.state, 'pending');
  await drain(pair.there, taken);
  await until(() => sending.state === 'fulfilled');
  assert.equal(await nextText(pair.there), 'last');
});

channelTest('a message that waits keeps its place before those sent after it', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  const sending = ['a', 'b', 'c'].map((text) => pair.here.send(text));
  await drain(pair.there, taken);
  sending.push(pair.here.send('d')); // there is room now, and others wait
  await Promise.all(sending);
  sending.push(pair.here.send('e'));
  for (const text of 'abcde') assert.equal(await nextText(pair.there), text);
});

channelTest('a small message does not overtake a large one that waits', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  const large = pair.here.send(Buffer.alloc(100_000));
  const small = pair.here.send('small');
  await drain(pair.there, taken);
  assert.equal((await next(pair.there)).data.length, 100_000);
  assert.equal(await nextText(pair.there), 'small');
  await Promise.all([large, small]);
});

channelTest('1000 sends that nobody awaits arrive in order', async () => {
  using pair = new Pair();
  const sending = Array.from({ length: 1000 }, (_, index) => pair.here.send(`frame ${index}`.padEnd(1000)));
  for (let index = 0; index < 1000; index++) {
    assert.equal((await nextText(pair.there)).trim(), `frame ${index}`);
  }
  await Promise.all(sending);
});

channelTest(
  '5000 sends of small messages keep their order where sending yields to the event loop',
  async () => {
    using pair = new Pair();
    const receiving = (async () => {
      for (let index = 0; index < 5000; index++) assert.equal(await nextText(pair.there), String(index));
    })();
    for (let index = 0; index < 5000; index++) void pair.here.send(String(index));
    await receiving;
  },
);

channelTest('100 sends with handles that nobody awaits arrive in order, and leave nothing', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  const sending = Array.from({ length: 100 }, (_, index) =>
    pair.here.send(`${index}`.padEnd(8000), [buffer, 0]),
  );
  for (let index = 0; index < 100; index++) {
    const { data, handles } = await next(pair.there);
    assert.equal(Number(Buffer.from(data).toString()), index);
    assert.deepEqual(
      handles.map((handle) => typeof handle),
      ['object', 'number'],
    );
    closeHandles(handles);
  }
  await Promise.all(sending);
});

channelTest('both directions can be full at once, and empty again', async () => {
  using pair = new Pair();
  const taken = [await fill(pair.here), await fill(pair.there)] as const;
  const sending = [pair.here.send('to there'), pair.there.send('to here')];
  await drain(pair.there, taken[0]);
  await drain(pair.here, taken[1]);
  assert.deepEqual([await nextText(pair.here), await nextText(pair.there)], ['to here', 'to there']);
  await Promise.all(sending);
});

channelTest('a full socket does not keep messages from being received', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  const sending = pair.here.send('x');
  await pair.there.send('other way');
  assert.equal(await nextText(pair.here), 'other way');
  await drain(pair.there, taken);
  await sending;
});

// ---- ends of waiting

channelTest(
  'an abort ends a send that waits, with the very reason, and the message is not sent',
  async () => {
    using pair = new Pair();
    const taken = await fill(pair.here);
    const controller = new AbortController();
    const reason = new Error('no longer wanted');
    const sending = pair.here.send('aborted', [], { signal: controller.signal });
    const after = pair.here.send('after');
    controller.abort(reason);
    await rejectsWith(sending, reason);
    await drain(pair.there, taken);
    await after;
    assert.equal(await nextText(pair.there), 'after');
  },
);

channelTest('an abort at the moment when there is room again sends all or nothing', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  const controller = new AbortController();
  const sending = watch(pair.here.send('aborted', [], { signal: controller.signal }));
  await drain(pair.there, taken);
  controller.abort(new Error('no longer wanted'));
  await until(() => sending.state !== 'pending');
  await pair.here.send('after');
  const expected = sending.state === 'fulfilled' ? 'aborted' : 'after';
  assert.equal(await nextText(pair.there), expected);
});

channelTest('a signal that has aborted already rejects with its reason, and nothing is sent', async () => {
  using pair = new Pair();
  const reason = { my: 'reason' };
  await rejectsWith(pair.here.send('x', [], { signal: AbortSignal.abort(reason) }), reason);
  await assertNothingSent(pair);
});

channelTest('an abort after the message was sent changes nothing', async () => {
  using pair = new Pair();
  const controller = new AbortController();
  await pair.here.send('x', [], { signal: controller.signal });
  controller.abort();
  assert.equal(await nextText(pair.there), 'x');
});

channelTest('a send that waits too long rejects with ETIMEDOUT, and the message is not sent', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  const error = await rejectsCode(() => pair.here.send('late', [], { timeout: 20 }), 'ETIMEDOUT');
  assert.match(error.message, /sending a message.*20 ms/);
  await drain(pair.there, taken);
  await assertNothingSent(pair);
});

channelTest('with timeout 0 a message is sent at once or not at all', async () => {
  using pair = new Pair();
  await pair.here.send('x', [], { timeout: 0 });
  assert.equal(await nextText(pair.there), 'x');
  await fill(pair.here);
  await rejectsCode(() => pair.here.send('x', [], { timeout: 0 }), 'ETIMEDOUT');
});

channelTest('the reason of an abort keeps its own stack', async () => {
  using pair = new Pair();
  await fill(pair.here);
  const controller = new AbortController();
  const reason = await rejectsCode(function aPlaceOfItsOwn() {
    return pair.here.send('x', [], { timeout: 1 });
  }, 'ETIMEDOUT');
  const { stack } = reason;
  const sending = pair.here.send('x', [], { signal: controller.signal });
  controller.abort(reason);
  await rejectsWith(sending, reason);
  assert.equal(reason.stack, stack);
});

channelTest('an error after waiting has the caller in its stack', async () => {
  using pair = new Pair();
  await fill(pair.here);
  async function callerOfSend(): Promise<void> {
    await pair.here.send('x', [], { timeout: 1 });
  }
  const error = await rejectsCode(callerOfSend, 'ETIMEDOUT');
  assert.match(error.stack ?? '', /callerOfSend/);
});

const endings: readonly [string, (pair: Pair, controller: AbortController) => void, string | undefined][] = [
  ['aborted', (_pair, controller) => controller.abort(new Error('enough')), undefined],
  ['ended by close()', (pair) => pair.here.close(), 'ERR_DMABUF_CLOSED'],
  ['ended by release()', (pair) => closeSync(pair.here.release()), 'ERR_DMABUF_CLOSED'],
  ['ended by the peer', (pair) => pair.there.close(), 'EPIPE'],
];

for (const [what, end, code] of endings) {
  channelTest(`a send that is ${what} while it waits closes the copies that it holds`, async () => {
    using pair = new Pair();
    await fill(pair.here);
    using buffer = allocateSync(4096);
    const before = buffer.info().references;
    const controller = new AbortController();
    const sending = watch(pair.here.send('x', [buffer, buffer], { signal: controller.signal }));
    assert.equal(buffer.info().references, before + 2);
    end(pair, controller);
    await until(() => sending.state !== 'pending');
    assert.equal(sending.state, 'rejected');
    if (code !== undefined) assert.equal((sending.value as { code?: string }).code, code);
    await until(() => buffer.info().references === before);
  });
}

channelTest('a send that times out while it waits closes the copies that it holds', async () => {
  using pair = new Pair();
  await fill(pair.here);
  using buffer = allocateSync(4096);
  const before = buffer.info().references;
  await rejectsCode(() => pair.here.send('x', [buffer], { timeout: 1 }), 'ETIMEDOUT');
  await until(() => buffer.info().references === before);
});

channelTest('close() rejects every send that waits', async () => {
  using pair = new Pair();
  await fill(pair.here);
  const sending = Promise.allSettled([1, 2, 3].map((number) => pair.here.send(`${number}`)));
  pair.here.close();
  for (const outcome of await sending) {
    assert.equal(outcome.status, 'rejected');
    assert.equal((outcome as PromiseRejectedResult).reason.code, 'ERR_DMABUF_CLOSED');
  }
});

channelTest('close() leaves what was sent to the peer', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  pair.here.close();
  await drain(pair.there, taken);
  assert.equal(await pair.there.receive(), undefined);
});

// ---- a peer that is gone

channelTest('sending to a peer that is gone is EPIPE with the reason, again and again', async () => {
  using pair = new Pair();
  pair.there.close();
  for (let round = 0; round < 3; round++) {
    const error = await rejectsCode(() => pair.here.send('x'), 'EPIPE');
    assert.deepEqual([error.errno, error.syscall], [-32, 'sendmsg']);
    assert.match(error.message, /peer has closed/);
  }
});

channelTest('a handle that cannot be sent to a peer that is gone leaves no copy', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  pair.there.close();
  const before = buffer.info().references;
  await rejectsCode(() => pair.here.send('x', [buffer]), 'EPIPE');
  await until(() => buffer.info().references === before);
});

channelTest('sends that wait when the peer goes all reject with EPIPE', async () => {
  using pair = new Pair();
  await fill(pair.here);
  const sending = Promise.allSettled([1, 2, 3].map((number) => pair.here.send(`${number}`)));
  pair.there.close();
  for (const outcome of await sending) {
    assert.equal((outcome as PromiseRejectedResult).reason.code, 'EPIPE');
  }
});

channelTest('a peer that died with unread messages is EPIPE, never ECONNRESET', async () => {
  using pair = new Pair();
  await pair.here.send('unread');
  pair.there.close();
  await rejectsCode(() => pair.here.send('x'), 'EPIPE');
  await rejectsCode(() => pair.here.send('x'), 'EPIPE');
  assert.equal(await pair.here.receive(), undefined);
});

channelTest('EPIPE kills nobody: there is no SIGPIPE', async () => {
  using pair = new Pair();
  pair.there.close();
  let signals = 0;
  const count = (): void => {
    signals++;
  };
  process.on('SIGPIPE', count);
  await rejectsCode(() => pair.here.send('x'), 'EPIPE');
  await turns();
  process.off('SIGPIPE', count);
  assert.equal(signals, 0);
});

channelTest('a peer that no longer reads is EPIPE, and what it sends still arrives', async () => {
  const [one, other] = ForeignSocket.pair();
  using channel = adopt(one);
  using foreign = other;
  foreign.shutDown('read');
  await rejectsCode(() => channel.send('x'), 'EPIPE');
  foreign.send('still talking');
  assert.equal(await nextText(channel), 'still talking');
});

channelTest('a peer that no longer writes can still be sent to', async () => {
  const [one, other] = ForeignSocket.pair();
  using channel = adopt(one);
  using foreign = other;
  foreign.shutDown('write');
  assert.equal(await channel.receive(), undefined);
  await channel.send('still heard');
  using otherChannel = adopt(foreign);
  assert.equal(await nextText(otherChannel), 'still heard');
});

// ---- a descriptor that was closed behind the channel

channelTest('a channel whose descriptor was closed behind it says EBADF', async () => {
  using pair = new Pair();
  closeSync(pair.here.fd);
  await rejectsCode(() => pair.here.send('x'), 'EBADF');
  await rejectsCode(() => pair.here.receive(), 'EBADF');
});

channelTest(
  'a channel whose number is now another file says ERR_DMABUF_STALE_FD, and leaves that file alone',
  async () => {
    using pair = new Pair();
    const { fd } = pair.here;
    const [one, other] = ForeignSocket.pair();
    const others: number[] = [];
    closeSync(fd);
    // The lowest free number is taken first.
    const stranger = ForeignSocket.create('seqpacket');
    assert.equal(stranger.fd, fd);
    await rejectsCode(() => pair.here.send('x'), 'ERR_DMABUF_STALE_FD');
    await rejectsCode(() => pair.here.receive(), 'ERR_DMABUF_STALE_FD');
    assert.throws(() => pair.here.release(), { code: 'ERR_DMABUF_STALE_FD' });
    pair.here.close();
    assert.ok(openFds().has(fd));
    for (const end of [one, other, stranger]) end.close();
    for (const number of others) closeSync(number);
  },
);

channelTest('a send to oneself by mistake is an error of types, not a crash', async () => {
  using pair = new Pair();
  await rejectsCode(() => pair.here.send('x', [unsound(pair.here)]), 'ERR_INVALID_ARG_TYPE');
});
