import assert from 'node:assert/strict';
import {
  allocateSync,
  type DmaBuf,
  DmaBufChannel,
  FrameReceiver,
  FrameSender,
  type ReceivedFrame,
} from 'dmabuf';
import { type FrameLayout, frameOf } from 'dmabuf/frame';
import { kernelTest } from './kernel-test.js';
import { patience } from './peers.js';

/** What a test of frames works with. */
export interface FrameEnds {
  sender: FrameSender;
  receiver: FrameReceiver;
  /** A new receiver of the sender. */
  join(options?: Parameters<FrameSender['add']>[1]): FrameReceiver;
  /** A frame of 8x8 grey pixels in a buffer of its own, all of one value. */
  frame(value: number): FrameLayout;
}

/** A `kernelTest` with a sender and its first receiver, which are closed at its end, as the frames' buffers are. */
export function frameTest(
  name: string,
  body: (ends: FrameEnds) => Promise<void>,
  options?: ConstructorParameters<typeof FrameSender>[1],
): void {
  kernelTest(name, async () => {
    const [here, there] = DmaBufChannel.pair();
    const sender = new FrameSender(here, options);
    const receivers = [new FrameReceiver(there)];
    const buffers: DmaBuf[] = [];
    try {
      await body({
        sender,
        receiver: receivers[0] as FrameReceiver,
        join(wanted) {
          const [mine, yours] = DmaBufChannel.pair();
          sender.add(mine, wanted);
          const receiver = new FrameReceiver(yours);
          receivers.push(receiver);
          return receiver;
        },
        frame(value) {
          const buffer = allocateSync(4096);
          buffers.push(buffer);
          buffer.write(new Uint8Array(64).fill(value));
          return frameOf(buffer, 'GREY', 8, 8);
        },
      });
    } finally {
      sender.close();
      for (const receiver of receivers) receiver.close();
      for (const buffer of buffers) buffer.close();
    }
  });
}

/** The next frame: there must be one. */
export async function nextFrame(receiver: FrameReceiver): Promise<ReceivedFrame> {
  const frame = await receiver.receive({ timeout: patience });
  assert.ok(frame !== undefined, 'the sender is gone');
  return frame;
}

/** The first byte of the frame's first plane. */
export function firstByte({ planes: [plane] }: FrameLayout): number {
  assert.ok(plane !== undefined);
  const bytes = new Uint8Array(1);
  plane.buffer.read(bytes, plane.offset);
  return bytes[0] as number;
}
