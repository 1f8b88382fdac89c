// A camera, as a process that owns the memory: it fills buffers and passes them to every client that connects, until
// the client is gone.
//
//   node producer.js [--path /tmp/camera.sock] [--buffers 4] [--width 640] [--height 480]
//
// All clients get the same frames, as fast as the slowest returns them: when all buffers are with them, acquire() waits.

import { parseArgs } from 'node:util';
import { DmaBufChannel, DmaBufError, DmaBufPool, FrameSender } from 'dmabuf';
import { frameOf, layoutOf } from 'dmabuf/frame';

const { values } = parseArgs({
  options: {
    path: { type: 'string', default: '/tmp/camera.sock' },
    buffers: { type: 'string', default: '4' },
    width: { type: 'string', default: '640' },
    height: { type: 'string', default: '480' },
  },
});
const width = Number(values.width);
const height = Number(values.height);
const count = Number(values.buffers);
const pool = new DmaBufPool(layoutOf('XR24', width, height).size, {
  from: ['cma', 'system', 'udmabuf'],
  max: count,
});
const sender = new FrameSender(undefined, { window: count, policy: 'wait' });
let consumers = 0;
let wake = (): void => {};

/** Where a real camera's driver would put its picture. */
function draw(bytes: Uint8Array, frame: number): void {
  bytes.fill(frame & 0xff);
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, frame, true);
}

async function capture(): Promise<void> {
  for (let frame = 0; ; frame++) {
    while (consumers === 0) {
      pool.trim();
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    const loan = await pool.acquire();
    await loan.buffer.withCpuAccess('write', (bytes) => draw(bytes, frame));
    await sender.send(frameOf(loan.buffer, 'XR24', width, height), { metadata: { frame }, owner: loan });
  }
}

async function serve(channel: DmaBufChannel): Promise<void> {
  const connection = sender.add(channel);
  consumers++;
  wake();
  try {
    await connection.ended;
  } catch (error) {
    console.error('producer:', error);
  }
  consumers--;
  const { sent } = connection.statistics();
  const { allocated } = pool.statistics();
  console.log(
    `producer: consumer ${connection.peer.pid} is gone after ${sent} frames in ${allocated} buffers`,
  );
}

const server = DmaBufChannel.listen(values.path, { mode: 0o660 });
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => server.close());
console.log(`producer: listening on ${server.path}`);
capture().catch((error: unknown) => {
  // Closing the sender and the pool ends it.
  if (!(error instanceof DmaBufError) || error.code !== 'ERR_DMABUF_CLOSED') throw error;
});
for await (const channel of server) void serve(channel);
sender.close();
pool.close();
