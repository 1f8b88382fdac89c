// Programs in C and Python at the other end of a FrameSender and a FrameReceiver, and such that are killed.

import assert from 'node:assert/strict';
import { allocateSync, DmaBufChannel, FrameReceiver, FrameSender } from 'dmabuf';
import { frameOf } from 'dmabuf/frame';
import { channelTest } from '../../../support/channel-test.js';
import { compiled } from '../../../support/compiled.js';
import { firstByte, nextFrame } from '../../../support/frame-ends.js';
import { Peer, programFile } from '../../../support/peers.js';
import { python } from '../../../support/programs.js';

/** A receiver in another language, and the sender's connection to it. */
function foreignReceiver(sender: FrameSender, command: string, ...args: string[]): Peer {
  const [here, there] = DmaBufChannel.pair();
  const peer = new Peer(command, args, there);
  there.close();
  sender.add(here);
  return peer;
}

const receivers: Readonly<Record<string, () => [string, ...string[]]>> = {
  C: () => [compiled('frame-peer'), '3', '1000'],
  Python: () => [python, programFile('frame_peer.py'), 'receive', '3'],
};

for (const [language, command] of Object.entries(receivers)) {
  channelTest(
    `a receiver in ${language} gets frames, returns them, and is told which buffers to close`,
    async () => {
      using sender = new FrameSender();
      await using peer = foreignReceiver(sender, ...command());
      using one = allocateSync(4096);
      using two = allocateSync(4096);
      one.write(new Uint8Array(96).fill(2));
      two.write(new Uint8Array(96).fill(3));
      const frames = [
        frameOf(one, 'NV12', 8, 8),
        frameOf([two, one], 'NV12', 8, 8),
        { ...frameOf(one, 'R8', 4, 4), modifier: 5n },
      ];
      using ready = one.exportSyncFile('read');
      const said = [
        '0 NV12 8x8 0 null [128, 64] 1',
        '1 NV12 8x8 0 {"a": 1} [192, 64] 2',
        '2 R8   4x4 5 null [32] 2',
      ];
      for (const [index, frame] of frames.entries()) {
        const options = index === 1 ? { metadata: { a: 1 }, ready } : {};
        const { returned } = await sender.send(frame, options);
        assert.equal((await peer.line()).replace('{"a":1}', '{"a": 1}'), said[index]);
        await returned;
      }
      // Each of these buffers is closed when the next one is sent, and the receiver told so.
      for (let number = 3; number < 8; number++) {
        using buffer = allocateSync(4096);
        const { returned } = await sender.send(frameOf(buffer, 'R8', 4, 4));
        assert.match(await peer.line(), new RegExp(`^${number} .* 3$`));
        await returned;
        if (number === 3) for (const old of [one, two]) old.close();
      }
      sender.close();
      assert.equal(await peer.ended, 0);
    },
  );
}

channelTest('a sender in Python is received', async () => {
  const [here, there] = DmaBufChannel.pair();
  await using peer = new Peer(python, [programFile('frame_peer.py'), 'send', '3', '6'], there);
  there.close();
  using receiver = new FrameReceiver(here);
  for (let number = 0; number < 6; number++) {
    using frame = await nextFrame(receiver);
    assert.deepEqual([firstByte(frame), frame.sequence, frame.metadata], [number, number, { number }]);
    frame.release();
    assert.equal(await peer.line(), String(number));
  }
  assert.equal(await receiver.receive(), undefined);
});

channelTest('a receiver that is killed at any moment returns its frames', async () => {
  const rounds = Number(process.env.DMABUF_TEST_KILLS ?? 40);
  using sender = new FrameSender(undefined, { window: 4 });
  using buffer = allocateSync(4096);
  const frame = frameOf(buffer, 'R8', 4, 4);
  for (let round = 0; round < rounds; round++) {
    await using peer = foreignReceiver(sender, compiled('frame-peer'), '3', String(round % 5));
    const sent = [];
    // It returns none after some: these are held when it is killed, received or not.
    for (let count = 0; count < 4 + (round % 5); count++) sent.push((await sender.send(frame)).returned);
    if (round % 2 === 0) await peer.line();
    peer.kill();
    await Promise.all(sent);
    assert.equal(sender.statistics().inFlight, 0);
  }
});
