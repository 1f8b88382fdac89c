// Receives the camera's frames, checks each, and returns its buffer. Reconnects when the producer restarts.
//
//   node consumer.js [--path /tmp/camera.sock] [--frames 300] [--delay 0]
//
// `--delay`: milliseconds that each frame takes. The slower this is, the slower the producer: no frame is lost and no
// memory piles up.

import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { DmaBufChannel, DmaBufError, FrameReceiver, type ReceivedFrame } from 'dmabuf';

const { values } = parseArgs({
  options: {
    path: { type: 'string', default: '/tmp/camera.sock' },
    frames: { type: 'string', default: '300' },
    delay: { type: 'string', default: '0' },
  },
});

/** Waits for the producer, which may start later or may be restarting. */
async function connect(): Promise<DmaBufChannel> {
  for (;;) {
    try {
      return await DmaBufChannel.connect(values.path);
    } catch (error) {
      const notThere = error instanceof DmaBufError && ['ENOENT', 'ECONNREFUSED'].includes(error.code);
      if (!notThere) throw error;
      await sleep(100);
    }
  }
}

/** Throws unless the frame is what the producer captured. */
async function look({ planes, metadata, sequence, missed }: ReceivedFrame): Promise<void> {
  const { frame } = metadata as { frame: number };
  const [plane] = planes;
  if (missed > 0) throw new Error(`${missed} frames before ${sequence} did not come`);
  if (plane === undefined) throw new Error('a frame without a plane');
  // Waits for the devices that write the buffer, then reads.
  await plane.buffer.withCpuAccess(
    'read',
    (bytes) => {
      const number = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
      if (number !== frame) throw new Error(`frame ${frame} says it is ${number}`);
      const last = bytes[plane.size - 1];
      if (last !== (frame & 0xff)) throw new Error(`frame ${frame} is torn: ${last}`);
    },
    { timeout: 10_000 },
  );
}

let left = Number(values.frames);
while (left > 0) {
  const channel = await connect();
  console.log(`consumer: connected to producer ${channel.peer.pid}`);
  const receiver = new FrameReceiver(channel);
  let count = 0;
  for await (const frame of receiver) {
    await look(frame);
    if (values.delay !== '0') await sleep(Number(values.delay));
    frame.release();
    count++;
    if (--left === 0) break;
  }
  receiver.close();
  console.log(`consumer: ${count} frames, all in order and whole`);
}
