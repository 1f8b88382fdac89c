// Pictures in buffers.

import type { FrameReceiver, FrameSender, ReceivedFrame } from 'dmabuf';
import type { FrameLayout } from 'dmabuf/frame';
import { patience, type Scripts, type Tools } from '../script.js';

const aFrame = ({ frame, buffer }: Tools): FrameLayout => frame.frameOf(buffer, 'NV12', 64, 64);

/** A sender and a receiver at the ends of a channel. */
function ends({ core, own }: Tools): [FrameSender, FrameReceiver] {
  const [here, there] = core.DmaBufChannel.pair();
  return [own(new core.FrameSender(here)), own(new core.FrameReceiver(there))];
}

async function received(receiver: FrameReceiver): Promise<ReceivedFrame> {
  const frame = await receiver.receive({ timeout: patience });
  if (frame === undefined) throw new Error('the sender is gone');
  return frame;
}

export const frames: Scripts = {
  'FrameSender to FrameReceiver': async (tools) => {
    const [sender, receiver] = ends(tools);
    const ready = tools.own(tools.buffer.exportSyncFile('read'));
    tools.begin();
    const { returned } = await sender.send(aFrame(tools), { metadata: { a: 1 }, ready, timeout: patience });
    const frame = await received(receiver);
    const text = [frame.metadata, frame.ready?.status, frame.toJSON(), sender.toJSON(), frame.released];
    frame.release();
    await returned;
    return [text, sender.statistics(), frame.released];
  },
  'FrameSender.add': async ({ core, begin, own }) => {
    const sender = own(new core.FrameSender());
    const [here, there] = core.DmaBufChannel.pair();
    own(there);
    begin();
    try {
      const connection = sender.add(here, { window: 1 });
      const figures = connection.statistics();
      connection.close();
      await connection.ended;
      return figures;
    } finally {
      here.close();
    }
  },
  'FrameSender.close': (tools) => {
    const [sender, receiver] = ends(tools);
    tools.begin();
    sender.close();
    receiver.close();
    return [sender.closed, receiver.closed];
  },
  'frames disposed of': async (tools) => {
    const [sender, receiver] = ends(tools);
    await sender.send(aFrame(tools));
    const frame = await received(receiver);
    tools.begin();
    frame[Symbol.dispose]();
    receiver[Symbol.dispose]();
    sender[Symbol.dispose]();
    return [frame.released, (receiver.toJSON() as { closed: boolean }).closed];
  },
  'FrameReceiver as an iterable': async (tools) => {
    const [sender, receiver] = ends(tools);
    await sender.send(aFrame(tools));
    tools.begin();
    for await (const frame of receiver) {
      frame.release();
      return frame.sequence;
    }
    return 'the sender is gone';
  },
  layoutOf: ({ frame, begin }) => {
    begin();
    return frame.layoutOf('NV12', 64, 64).size;
  },
  frameOf: (tools) => {
    tools.begin();
    return aFrame(tools).planes.length;
  },
  toNativePixmap: (tools) => {
    const frame = aFrame(tools);
    tools.begin();
    return tools.frame.toNativePixmap(frame).planes.map(({ fd, ...plane }) => [fd > 0, plane]);
  },
  toRgba: (tools) => {
    const frame = aFrame(tools);
    tools.buffer.read(new Uint8Array(1)); // The first copy maps the buffer, which stays so.
    tools.begin();
    return tools.frame.toRgba(frame).length;
  },
};
