import assert from 'node:assert/strict';
import { allocateSync, closeHandles, type DmaBuf, DmaBufChannel } from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import { adopt, fill, Pair } from '../../../support/channels.js';
import { turns, until, watch } from '../../../support/event-loop.js';
import { rejectsCode } from '../../../support/expect.js';
import { Foreign, text } from '../../../support/foreign-channel.js';
import { next, nextText } from '../../../support/messages.js';
import { ForeignSocket } from '../../../support/sockets.js';

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
