// Receives the camera's frames, checks each, and returns its buffer. Reconnects when the producer restarts.
//
//   node consumer.js [--path /tmp/camera.sock] [--frames 300] [--delay 0]
//
// `--delay`: milliseconds that each frame takes. The slower this is, the slower the producer: no frame is lost and no
// memory piles up.

import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { closeHandles, DmaBuf, DmaBufChannel, DmaBufError } from 'dmabuf';

const { values } = parseArgs({
  options: {
    path: { type: 'string', default: '/tmp/camera.sock' },
    frames: { type: 'string', default: '300' },
    delay: { type: 'string', default: '0' },
  },
});

interface Header {
  frame: number;
  width: number;
  height: number;
  stride: number;
}

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
function look(bytes: Uint8Array, { frame, height, stride }: Header): void {
  const number = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  if (number !== frame) throw new Error(`frame ${frame} says it is ${number}`);
  const last = bytes[height * stride - 1];
  if (last !== (frame & 0xff)) throw new Error(`frame ${frame} is torn: ${last}`);
}

let left = Number(values.frames);
while (left > 0) {
  const channel = await connect();
  console.log(`consumer: connected to producer ${channel.peer.pid}`);
  let expected = 0;
  for await (const { data, handles } of channel) {
    const header = JSON.parse(new TextDecoder().decode(data)) as Header;
    const [buffer] = handles;
    try {
      if (!(buffer instanceof DmaBuf)) throw new Error('the producer sent no buffer');
      if (header.frame !== expected++)
        throw new Error(`frame ${header.frame} came instead of ${expected - 1}`);
      // Waits for the devices that write the buffer, then reads.
      await buffer.withCpuAccess('read', (bytes) => look(bytes, header), { timeout: 10_000 });
      if (values.delay !== '0') await sleep(Number(values.delay));
    } finally {
      closeHandles(handles);
    }
    if (--left === 0) break;
    try {
      await channel.send(JSON.stringify({ done: header.frame }));
    } catch (error) {
      if (!(error instanceof DmaBufError) || error.code !== 'EPIPE') throw error;
      break; // The producer is gone.
    }
  }
  channel.close();
  console.log(`consumer: ${expected} frames, all in order and whole`);
}
