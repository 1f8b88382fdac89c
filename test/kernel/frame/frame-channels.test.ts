// FrameSender and FrameReceiver, both of this package.

import assert from 'node:assert/strict';
import { DmaBufChannel, DmaBufPool, FrameReceiver, FrameSender, ReceivedFrame } from 'dmabuf';
import { frameOf } from 'dmabuf/frame';
import { collectUntil, turns, until, watch } from '../../support/event-loop.js';
import { rejectsCode, rejectsWith, throwsCode, unsound } from '../../support/expect.js';
import { firstByte, frameTest, nextFrame } from '../../support/frame-ends.js';
import { kernelTest } from '../../support/kernel-test.js';

frameTest('a frame arrives with its layout and metadata', async ({ sender, receiver, frame }) => {
  const sent = frame(7);
  await sender.send(sent, { metadata: { exposure: 20, tags: ['a'] } });
  using received = await nextFrame(receiver);
  const { fourcc, width, height, modifier, planes, sequence, missed, metadata, ready } = received;
  assert.deepEqual(
    { fourcc, width, height, modifier, sequence, missed, metadata, ready },
    {
      fourcc: 'GREY',
      width: 8,
      height: 8,
      modifier: 0n,
      sequence: 0,
      missed: 0,
      metadata: { exposure: 20, tags: ['a'] },
      ready: undefined,
    },
  );
  assert.deepEqual(
    planes.map(({ offset, stride, size }) => [offset, stride, size]),
    [[0, 8, 64]],
  );
  assert.equal(planes[0]?.buffer.inode, sent.planes[0]?.buffer.inode);
  assert.equal(firstByte(received), 7);
});

frameTest(
  'a buffer travels once, and the receiver has one object for it',
  async ({ sender, receiver, frame }) => {
    const sent = frame(1);
    await sender.send(sent);
    using first = await nextFrame(receiver);
    first.release();
    await sender.send(sent);
    using second = await nextFrame(receiver);
    assert.equal(second.planes[0]?.buffer, first.planes[0]?.buffer);
    assert.equal(second.metadata, undefined);
  },
);

frameTest('the planes of a frame may share a buffer or not', async ({ sender, receiver, frame }) => {
  const [one, two] = [frame(1), frame(2)].map(({ planes: [plane] }) => plane?.buffer);
  assert.ok(one && two);
  await sender.send(frameOf(one, 'NV12', 8, 8));
  await sender.send(frameOf([two, one], 'NV12', 8, 8));
  using shared = await nextFrame(receiver);
  using apart = await nextFrame(receiver);
  assert.equal(shared.planes[0]?.buffer, shared.planes[1]?.buffer);
  assert.notEqual(apart.planes[0]?.buffer, apart.planes[1]?.buffer);
  assert.equal(apart.planes[1]?.buffer, shared.planes[0]?.buffer);
});

frameTest('a frame is returned when the receiver releases it', async ({ sender, receiver, frame }) => {
  const { returned } = await sender.send(frame(1));
  const state = watch(returned);
  const received = await nextFrame(receiver);
  await turns();
  assert.equal(state.state, 'pending');
  received.release();
  received.release();
  await returned;
  assert.equal(received.released, true);
  assert.deepEqual(sender.statistics(), { sent: 1, returned: 1, dropped: 0, inFlight: 0 });
});

frameTest('the owner of a frame is disposed when it is returned', async ({ sender, receiver, frame }) => {
  using pool = new DmaBufPool(4096);
  const loan = await pool.acquire();
  const { returned } = await sender.send(frameOf(loan.buffer, 'GREY', 8, 8), { owner: loan });
  const unsent = watch((await sender.send(frame(2))).returned);
  (await nextFrame(receiver)).release();
  await returned;
  assert.equal(loan.released, true);
  assert.equal(unsent.state, 'pending');
  (await nextFrame(receiver)).release();
});

frameTest(
  "what disposing the owner throws rejects 'returned', and nothing else",
  async ({ sender, receiver, frame }) => {
    const failure = new Error('no');
    const owner = {
      [Symbol.dispose]() {
        throw failure;
      },
    };
    const { returned } = await sender.send(frame(1), { owner });
    (await nextFrame(receiver)).release();
    await rejectsWith(returned, failure);
  },
);

// ---------- windows

frameTest(
  "policy 'wait': send() waits until the receiver has returned a frame, in the order of the calls",
  async ({ sender, receiver, frame }) => {
    await sender.send(frame(1));
    const second = watch(sender.send(frame(2)));
    const third = watch(sender.send(frame(3)));
    await turns();
    assert.deepEqual([second.state, third.state], ['pending', 'pending']);
    for (const expected of [1, 2, 3]) {
      using received = await nextFrame(receiver);
      assert.equal(firstByte(received), expected);
    }
    await turns();
    assert.deepEqual([second.state, third.state], ['fulfilled', 'fulfilled']);
  },
  { window: 1 },
);

frameTest(
  "policy 'wait': a signal or a timeout ends the wait, and the frame is not sent",
  async ({ sender, receiver, frame }) => {
    await sender.send(frame(1));
    let disposed = 0;
    const owner = { [Symbol.dispose]: () => void disposed++ };
    const reason = new Error('enough');
    await rejectsWith(sender.send(frame(2), { owner, signal: AbortSignal.abort(reason) }), reason);
    await rejectsCode(() => sender.send(frame(3), { owner, timeout: 1 }), 'ETIMEDOUT');
    assert.equal(disposed, 0);
    const later = sender.send(frame(4));
    (await nextFrame(receiver)).release();
    await later;
    using received = await nextFrame(receiver);
    assert.equal(firstByte(received), 4);
  },
  { window: 1 },
);

frameTest(
  "policy 'drop-newest': what exceeds the window is not sent",
  async ({ sender, receiver, frame }) => {
    for (const value of [1, 2, 3, 4]) await sender.send(frame(value));
    assert.deepEqual(sender.statistics(), { sent: 2, returned: 0, dropped: 2, inFlight: 2 });
    (await nextFrame(receiver)).release();
    (await nextFrame(receiver)).release();
    await until(() => sender.statistics().inFlight === 0);
    await sender.send(frame(5));
    using received = await nextFrame(receiver);
    assert.deepEqual([firstByte(received), received.sequence, received.missed], [5, 4, 2]);
  },
  { window: 2, policy: 'drop-newest' },
);

frameTest(
  "policy 'drop-oldest': the newest frame is sent when there is room",
  async ({ sender, receiver, frame }) => {
    const fates = [];
    for (const value of [1, 2, 3, 4]) fates.push(watch((await sender.send(frame(value))).returned));
    await turns();
    assert.deepEqual(
      fates.map(({ state }) => state),
      ['pending', 'fulfilled', 'fulfilled', 'pending'],
    );
    (await nextFrame(receiver)).release();
    using received = await nextFrame(receiver);
    assert.deepEqual([firstByte(received), received.missed], [4, 2]);
    assert.deepEqual(sender.statistics(), { sent: 2, returned: 1, dropped: 2, inFlight: 1 });
  },
  { window: 1, policy: 'drop-oldest' },
);

frameTest(
  'a frame that waits for room in buffers that were closed meanwhile is dropped',
  async ({ sender, receiver, frame }) => {
    await sender.send(frame(1));
    const waiting = frame(2);
    const { returned } = await sender.send(waiting);
    waiting.planes[0]?.buffer.close();
    (await nextFrame(receiver)).release();
    await returned;
    assert.equal(sender.statistics().dropped, 1);
  },
  { window: 1, policy: 'drop-oldest' },
);

frameTest('each receiver has its own window and policy', async ({ sender, receiver, join, frame }) => {
  const slow = join({ window: 1, policy: 'drop-newest' });
  const { returned } = await sender.send(frame(1));
  await sender.send(frame(2));
  const state = watch(returned);
  (await nextFrame(receiver)).release();
  (await nextFrame(receiver)).release();
  await turns();
  assert.equal(state.state, 'pending');
  (await nextFrame(slow)).release();
  await returned;
  assert.equal(sender.statistics().dropped, 1);
});

// ---------- ends

kernelTest('without receivers a frame is returned at once', async () => {
  using sender = new FrameSender();
  using pool = new DmaBufPool(4096);
  const loan = await pool.acquire();
  await (await sender.send(frameOf(loan.buffer, 'GREY', 8, 8), { owner: loan })).returned;
  assert.equal(loan.released, true);
});

frameTest('a receiver that closes returns all its frames', async ({ sender, receiver, frame }) => {
  const { returned } = await sender.send(frame(1));
  const other = await sender.send(frame(2));
  const held = await nextFrame(receiver);
  receiver.close();
  await returned;
  await other.returned;
  assert.equal(firstByte(held), 1);
  held.release();
  throwsCode(() => firstByte(held), 'ERR_DMABUF_CLOSED');
  await sender.send(frame(3));
  assert.deepEqual(sender.statistics(), { sent: 2, returned: 2, dropped: 0, inFlight: 0 });
});

frameTest(
  'a send that waits for a receiver goes on when that is gone',
  async ({ sender, receiver, frame }) => {
    await sender.send(frame(1));
    const second = sender.send(frame(2));
    receiver.close();
    await (await second).returned;
  },
  { window: 1 },
);

frameTest(
  'a sender that closes ends the receiver, which keeps what it holds',
  async ({ sender, receiver, frame }) => {
    const { returned } = await sender.send(frame(1));
    await sender.send(frame(2));
    const held = await nextFrame(receiver);
    sender.close();
    await returned;
    using before = await nextFrame(receiver);
    assert.equal(firstByte(before), 2);
    assert.equal(await receiver.receive(), undefined);
    assert.equal(firstByte(held), 1);
    held.release();
    await rejectsCode(() => sender.send(frame(3)), 'ERR_DMABUF_CLOSED');
    throwsCode(() => sender.add(unsound(undefined)), 'ERR_INVALID_ARG_TYPE');
  },
);

frameTest(
  'close() rejects calls that wait',
  async ({ sender, frame }) => {
    await sender.send(frame(1));
    const second = sender.send(frame(2));
    sender.close();
    await rejectsCode(() => second, 'ERR_DMABUF_CLOSED');
  },
  { window: 1 },
);

kernelTest('a connection tells of its receiver, and closes it', async () => {
  using sender = new FrameSender();
  const [here, there] = DmaBufChannel.pair();
  using receiver = new FrameReceiver(there);
  const connection = sender.add(here);
  assert.equal(connection.peer.pid, process.pid);
  connection.close();
  await connection.ended;
  assert.equal(await receiver.receive(), undefined);
  assert.deepEqual(connection.statistics(), { sent: 0, returned: 0, dropped: 0, inFlight: 0 });
});

frameTest(
  'frames that were forgotten are returned when they are collected',
  async ({ sender, receiver, frame }) => {
    const { returned } = await sender.send(frame(1));
    const state = watch(returned);
    await (async () => void (await nextFrame(receiver)))();
    await collectUntil(() => state.state === 'fulfilled');
  },
);

frameTest('for await ends with the sender', async ({ sender, receiver, frame }) => {
  await sender.send(frame(1));
  await sender.send(frame(2));
  sender.close();
  const values: number[] = [];
  for await (const received of receiver) {
    values.push(firstByte(received));
    received.release();
  }
  assert.deepEqual(values, [1, 2]);
});

// ---------- buffers that come and go

frameTest('the receiver closes a buffer after its sender has', async ({ sender, receiver, frame }) => {
  const old = frame(1);
  await sender.send(old);
  const first = await nextFrame(receiver);
  const kept = first.planes[0]?.buffer;
  first.release();
  await until(() => sender.statistics().inFlight === 0);
  old.planes[0]?.buffer.close();
  await sender.send(frame(2));
  (await nextFrame(receiver)).release();
  assert.equal(kept?.closed, true);
});

frameTest('more buffers than a receiver keeps pass through it', async ({ sender, receiver, frame }) => {
  for (let value = 0; value < 300; value++) {
    const one = frame(value & 0xff);
    const { returned } = await sender.send(one);
    const received = await nextFrame(receiver);
    assert.equal(firstByte(received), value & 0xff);
    received.release();
    await returned;
    if (value % 2 === 0) one.planes[0]?.buffer.close();
  }
  const { buffers } = receiver.toJSON() as { buffers: number };
  assert.ok(buffers <= 128, `${buffers} buffers`);
});

// ---------- what is refused

frameTest('wrong frames and options are refused, and nothing is sent', async ({ sender, frame }) => {
  const good = frame(1);
  const closed = frame(2);
  closed.planes[0]?.buffer.close();
  const circle: { self?: object } = {};
  circle.self = circle;
  const wrong: [unknown, unknown, string][] = [
    [undefined, {}, 'ERR_INVALID_ARG_TYPE'],
    [{ ...good, fourcc: 'TOO LONG' }, {}, 'ERR_OUT_OF_RANGE'],
    [{ ...good, width: 0 }, {}, 'ERR_OUT_OF_RANGE'],
    [{ ...good, planes: [] }, {}, 'ERR_OUT_OF_RANGE'],
    [closed, {}, 'ERR_DMABUF_CLOSED'],
    [good, { ready: 5 }, 'ERR_INVALID_ARG_TYPE'],
    [good, { owner: {} }, 'ERR_INVALID_ARG_TYPE'],
    [good, { metadata: 'x'.repeat(70_000) }, 'ERR_OUT_OF_RANGE'],
    [good, { meta: 1 }, 'ERR_INVALID_ARG_VALUE'],
  ];
  for (const [layout, options, code] of wrong) {
    await rejectsCode(() => sender.send(unsound(layout), unsound(options)), code);
  }
  await assert.rejects(sender.send(good, { metadata: circle }), TypeError);
  assert.equal(sender.statistics().sent, 0);
});

kernelTest('a sender and a receiver are made of channels', () => {
  throwsCode(() => new FrameReceiver(unsound({})), 'ERR_INVALID_ARG_TYPE');
  throwsCode(() => new FrameSender(unsound({})), 'ERR_INVALID_ARG_TYPE');
  throwsCode(() => new FrameSender(undefined, { window: 17 }), 'ERR_OUT_OF_RANGE');
  throwsCode(() => new FrameSender(undefined, { policy: unsound('drop') }), 'ERR_OUT_OF_RANGE');
  throwsCode(() => new (unsound(ReceivedFrame))({}, {}), 'ERR_ILLEGAL_CONSTRUCTOR');
});
