// A camera, as a process that owns the memory: it fills buffers and passes them to every client that connects, until
// the client is gone.
//
//   node producer.js [--path /tmp/camera.sock] [--buffers 4] [--width 640] [--height 480]
//
// Every consumer gets frames as fast as it returns them: when all its buffers are lent, acquire() waits.

import { parseArgs } from 'node:util';
import { closeHandles, DmaBufChannel, DmaBufError, DmaBufPool, type PooledBuffer } from 'dmabuf';

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
const stride = width * 4;

/** Where a real camera's driver would put its picture. */
function capture(bytes: Uint8Array, frame: number): void {
  bytes.fill(frame & 0xff);
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, frame, true);
}

/** Returns buffers to the pool when the consumer is done with them. Ends when the consumer is gone. */
async function takeBack(channel: DmaBufChannel, lent: Map<number, PooledBuffer>): Promise<void> {
  for await (const { data, handles } of channel) {
    closeHandles(handles); // It has nothing to send, but it could.
    const { done } = JSON.parse(new TextDecoder().decode(data)) as { done: number };
    lent.get(done)?.release();
    lent.delete(done);
  }
}

async function serve(channel: DmaBufChannel): Promise<void> {
  const pool = new DmaBufPool(stride * height, {
    from: ['cma', 'system', 'udmabuf'],
    max: Number(values.buffers),
  });
  const lent = new Map<number, PooledBuffer>();
  const gone = new AbortController();
  const { signal } = gone;
  const returns = takeBack(channel, lent).finally(() => gone.abort());
  let frame = 0;
  try {
    for (; ; frame++) {
      const loan = await pool.acquire({ signal });
      lent.set(frame, loan);
      await loan.buffer.withCpuAccess('write', (bytes) => capture(bytes, frame), { signal });
      await channel.send(JSON.stringify({ frame, width, height, stride }), [loan.buffer], { signal });
    }
  } catch (error) {
    const consumerIsGone =
      signal.aborted || channel.closed || (error instanceof DmaBufError && error.code === 'EPIPE');
    if (!consumerIsGone) throw error;
  } finally {
    const { allocated } = pool.statistics();
    channel.close();
    for (const loan of lent.values()) loan.release();
    pool.close();
    console.log(
      `producer: consumer ${channel.peer.pid} is gone after ${frame} frames in ${allocated} buffers`,
    );
    await returns;
  }
}

const server = DmaBufChannel.listen(values.path, { mode: 0o660 });
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => server.close());
console.log(`producer: listening on ${server.path}`);
const consumers = new Set<DmaBufChannel>();
for await (const channel of server) {
  consumers.add(channel);
  serve(channel)
    .catch((error: unknown) => console.error('producer:', error))
    .finally(() => consumers.delete(channel));
}
for (const channel of consumers) channel.close();
