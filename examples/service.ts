// A Fastify service that borrows buffers from a pool: POST /frames makes a frame in a buffer and streams it, GET
// /metrics is for Prometheus. When all buffers are lent it answers 503; clients that go away or stop reading do not
// keep a buffer.
//
//   node service.js [--port 3000] [--buffers 4] [--wait 1000] [--stall 30000]
//
// `--wait`: milliseconds that a request waits for a buffer. `--stall`: milliseconds after which a client that reads
// nothing is disconnected. SIGTERM or SIGINT ends the service after the pending answers.

import { Readable } from 'node:stream';
import { parseArgs } from 'node:util';
import { DmaBufError, DmaBufPool } from 'dmabuf';
import { registerMetrics } from 'dmabuf/metrics';
import fastify from 'fastify';
import { Counter, Gauge, Registry } from 'prom-client';

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '3000' },
    buffers: { type: 'string', default: '4' },
    wait: { type: 'string', default: '1000' },
    stall: { type: 'string', default: '30000' },
  },
});

const size = 1920 * 1080 * 4;
const pool = new DmaBufPool(size, {
  from: ['cma', 'system', 'udmabuf'],
  max: Number(values.buffers),
  name: 'service-frame',
});

const register = new Registry();
const frames = new Counter({ name: 'frames_total', help: 'Frames that were made.', registers: [register] });
new Gauge({
  name: 'frames_pool_buffers',
  help: 'Buffers of the pool.',
  labelNames: ['state'],
  registers: [register],
  collect() {
    const { inUse, idle } = pool.statistics();
    this.set({ state: 'in_use' }, inUse);
    this.set({ state: 'idle' }, idle);
  },
});
new Gauge({
  name: 'frames_waiting',
  help: 'Requests that wait for a buffer.',
  registers: [register],
  collect() {
    this.set(pool.statistics().waiting);
  },
});
// The metrics of this process alone: they need no rights, and have one series each.
const metrics = registerMetrics({
  register,
  pids: [process.pid],
  onError: (error) => console.error('metrics:', error),
});

/** Where a camera or a renderer would put its picture. */
function capture(bytes: Uint8Array, frame: number): void {
  bytes.fill(frame & 0xff);
}

/** Views of the bytes, not copies. */
function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += 65_536) yield bytes.subarray(start, start + 65_536);
}

const app = fastify({ connectionTimeout: Number(values.stall) });

let made = 0;
app.post('/frames', async (request, reply) => {
  const { signal } = request; // Aborts when the client goes away.
  using loan = await pool.acquire({ signal, timeout: Number(values.wait) });
  const frame = made++;
  await loan.buffer.withCpuAccess('write', (bytes) => capture(bytes, frame), { signal });
  frames.inc();
  // The socket reads the bytes from the buffer's own memory. So the access and the loan end when the answer is sent or
  // the client is gone; awaiting the reply waits for this.
  await loan.buffer.withCpuAccess('read', async (bytes) => {
    reply.headers({
      'content-type': 'application/octet-stream',
      'content-length': bytes.length,
      'x-frame': frame,
    });
    await reply.send(Readable.from(pieces(bytes), { objectMode: false }));
  });
});

app.get('/metrics', async (_request, reply) => {
  reply.type(register.contentType);
  return register.metrics();
});

app.setErrorHandler((error, _request, reply) => {
  if (!(error instanceof DmaBufError) || error.code !== 'ETIMEDOUT') return reply.send(error);
  return reply.code(503).header('retry-after', '1').send({ error: 'all buffers are in use' });
});

// Emitted when all answers are sent.
app.addHook('onClose', async () => {
  pool.close();
  metrics.unregister();
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => app.close());

console.log(`serving ${await app.listen({ port: Number(values.port), host: '127.0.0.1' })}`);
