// What the other end of a FrameSender or FrameReceiver may send that is none of their messages.

import assert from 'node:assert/strict';
import { allocateSync, DmaBufChannel, FrameReceiver, FrameSender, openHandles } from 'dmabuf';
import { frameOf } from 'dmabuf/frame';
import {
  encodeFrame,
  encodeReturn,
  type FrameMessage,
  type NamedPlane,
} from '../../../lib/frame/frame-message.js';
import { until } from '../../support/event-loop.js';
import { rejectsCode } from '../../support/expect.js';
import { kernelTest } from '../../support/kernel-test.js';

const plane: NamedPlane = { buffer: 0, stride: 8, offset: 0, size: 64 };

function message(change: Partial<FrameMessage> = {}): FrameMessage {
  return {
    sequence: 0,
    fourcc: 'GREY',
    width: 8,
    height: 8,
    modifier: 0n,
    planes: [plane],
    introduced: 1,
    hasReady: false,
    forgotten: [],
    metadata: undefined,
    ...change,
  };
}

/** A message with some bytes changed. */
function changed(at: number, ...values: number[]): Uint8Array {
  const bytes = encodeFrame(message());
  bytes.set(values, at);
  return bytes;
}

/** What comes, and with how many buffers. */
const wrong: Readonly<Record<string, [Uint8Array, number]>> = {
  'nothing but a buffer': [new Uint8Array(0), 1],
  'random bytes': [new Uint8Array(100).fill(0xa5), 0],
  'the start of a frame': [encodeFrame(message()).subarray(0, 47), 1],
  'a frame without its planes': [encodeFrame(message()).subarray(0, 60), 1],
  'another version': [changed(3, 0x32), 1],
  'a return': [encodeReturn(0), 0],
  'no plane': [changed(5, 0), 1],
  'five planes': [changed(5, 5), 1],
  'a format that is not text': [changed(16, 0), 1],
  'more forgotten buffers than there are bytes': [changed(28, 0xff, 0xff, 0xff, 0xff), 1],
  'no width': [encodeFrame(message({ width: 0 })), 1],
  'a sequence of 2^53': [changed(8, 0, 0, 0, 0, 0, 0, 0x20, 0), 1],
  'an offset of 2^64 - 1': [changed(56, ...new Array(8).fill(0xff)), 1],
  'a plane that leaves its buffer': [encodeFrame(message({ planes: [{ ...plane, offset: 4096 }] })), 1],
  'no buffer': [encodeFrame(message()), 0],
  'two buffers in place of one': [encodeFrame(message()), 2],
  'a buffer that was never introduced': [encodeFrame(message({ introduced: 0 })), 0],
  'a buffer that was forgotten in the same message': [
    encodeFrame(message({ introduced: 0, forgotten: [0] })),
    0,
  ],
  'a forgotten buffer that was never introduced': [encodeFrame(message({ forgotten: [7] })), 1],
  'a buffer introduced twice': [encodeFrame(message({ planes: [plane, plane], introduced: 3 })), 2],
  'a sync_file that is a buffer': [encodeFrame(message({ hasReady: true })), 2],
  'metadata that are not JSON': [encodeFrame(message({ metadata: Buffer.from('{') })), 1],
  'metadata that are nested too deeply': [
    encodeFrame(message({ metadata: Buffer.from('['.repeat(100_000)) })),
    1,
  ],
  'metadata that are not there': [changed(7, 2), 1],
};

for (const [what, [bytes, count]] of Object.entries(wrong)) {
  kernelTest(`a receiver refuses ${what}, and closes what came with it`, async () => {
    const before = openHandles().length;
    const [here, there] = DmaBufChannel.pair();
    using receiver = new FrameReceiver(here);
    using buffer = allocateSync(4096);
    await there.send(bytes, new Array(count).fill(buffer));
    await rejectsCode(() => receiver.receive(), 'ERR_DMABUF_PROTOCOL');
    assert.equal(receiver.closed, true);
    there.close();
    buffer.close();
    assert.equal(openHandles().length, before);
  });
}

kernelTest('a receiver refuses a buffer whose number it knows, and a frame that is not newer', async () => {
  for (const second of [message({ sequence: 1 }), message({ introduced: 0 })]) {
    const [here, there] = DmaBufChannel.pair();
    using receiver = new FrameReceiver(here);
    using buffer = allocateSync(4096);
    await there.send(encodeFrame(message()), [buffer]);
    (await receiver.receive())?.release();
    await there.send(encodeFrame(second), second.introduced === 1 ? [buffer] : []);
    await rejectsCode(() => receiver.receive(), 'ERR_DMABUF_PROTOCOL');
    there.close();
  }
});

kernelTest('a receiver keeps at most 128 buffers', async () => {
  const [here, there] = DmaBufChannel.pair();
  using receiver = new FrameReceiver(here);
  using buffer = allocateSync(4096);
  for (let id = 0; id < 128; id++) {
    const planes = [{ ...plane, buffer: id }];
    await there.send(encodeFrame(message({ sequence: id, planes })), [buffer]);
    (await receiver.receive())?.release();
  }
  const planes = [{ ...plane, buffer: 128 }];
  await there.send(encodeFrame(message({ sequence: 128, planes })), [buffer]);
  await rejectsCode(() => receiver.receive(), 'ERR_DMABUF_PROTOCOL');
  there.close();
});

kernelTest('a sender that never reads what is returned loses its receiver', async () => {
  const [here, there] = DmaBufChannel.pair();
  using receiver = new FrameReceiver(here);
  using buffer = allocateSync(4096);
  let sequence = 0;
  while (!receiver.closed && sequence < 10_000) {
    const introduced = sequence === 0 ? 1 : 0;
    const sent = there
      .send(encodeFrame(message({ sequence: sequence++, introduced })), introduced ? [buffer] : [])
      .catch(() => {});
    (await receiver.receive().catch(() => undefined))?.release();
    await sent;
  }
  assert.equal(receiver.closed, true);
  there.close();
});

const answers: Readonly<Record<string, Uint8Array>> = {
  'random bytes': new Uint8Array(16).fill(0xa5),
  'a frame that it does not have': encodeReturn(5),
  'half a return': encodeReturn(0).subarray(0, 15),
  'a frame': encodeFrame(message()),
};

for (const [what, bytes] of Object.entries(answers)) {
  kernelTest(`a sender drops a receiver that answers ${what}, and has its frames back`, async () => {
    using sender = new FrameSender();
    const [here, there] = DmaBufChannel.pair();
    const connection = sender.add(here);
    using buffer = allocateSync(4096);
    const { returned } = await sender.send(frameOf(buffer, 'GREY', 8, 8));
    await there.send(bytes, [buffer]);
    await rejectsCode(() => connection.ended, 'ERR_DMABUF_PROTOCOL');
    await returned;
    there.close();
  });
}

kernelTest('a frame that is returned twice ends the receiver', async () => {
  using sender = new FrameSender();
  const [here, there] = DmaBufChannel.pair();
  const connection = sender.add(here);
  using buffer = allocateSync(4096);
  const { returned } = await sender.send(frameOf(buffer, 'GREY', 8, 8));
  await there.send(encodeReturn(0));
  await returned;
  await there.send(encodeReturn(0));
  await rejectsCode(() => connection.ended, 'ERR_DMABUF_PROTOCOL');
  there.close();
});

kernelTest('random messages never get past the receiver', async () => {
  using buffer = allocateSync(4096);
  let seed = 4711;
  const random = (): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return seed >>> 8;
  };
  for (let round = 0; round < 300; round++) {
    const [here, there] = DmaBufChannel.pair();
    const receiver = new FrameReceiver(here);
    const bytes = encodeFrame(message());
    for (let count = random() % 4; count >= 0; count--) bytes[random() % bytes.length] = random();
    await there.send(bytes, new Array(random() % 3).fill(buffer));
    there.close();
    try {
      const frame = await receiver.receive();
      for (const { buffer: own, offset, size } of frame?.planes ?? []) assert.ok(offset + size <= own.size);
      frame?.release();
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'ERR_DMABUF_PROTOCOL');
    }
    receiver.close();
  }
  await until(() => openHandles().length === 1);
});
