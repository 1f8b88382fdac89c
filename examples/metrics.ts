// A service that serves metrics of its own, and with them what dma-bufs it holds.
//
//   node metrics.js [--port 0]
//
// It allocates one buffer for each GET of /work, keeps the last four, and ends on SIGTERM or SIGINT.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseArgs } from 'node:util';
import { allocate, type DmaBuf } from 'dmabuf';
import { registerMetrics } from 'dmabuf/metrics';
import { Counter, Registry } from 'prom-client';

const { values } = parseArgs({ options: { port: { type: 'string', default: '0' } } });

const register = new Registry();
const requests = new Counter({
  name: 'service_requests_total',
  help: 'Requests that were served.',
  registers: [register],
});
// Of this process alone: that needs no rights, and has one series for each metric.
const metrics = registerMetrics({
  register,
  pids: [process.pid],
  onError: (error) => console.error('metrics:', error),
});

const kept: DmaBuf[] = [];

async function work(): Promise<string> {
  kept.push(await allocate(1 << 20, { name: 'service-work' }));
  if (kept.length > 4) kept.shift()?.close();
  return `${kept.length} buffers\n`;
}

const server = createServer(async (request, response) => {
  try {
    if (request.url === '/metrics') {
      response.setHeader('content-type', register.contentType).end(await register.metrics());
    } else if (request.url === '/work') {
      const text = await work();
      requests.inc();
      response.end(text);
    } else {
      response.writeHead(404).end();
    }
  } catch (error) {
    console.error(error);
    response.writeHead(500).end();
  }
});

function end(): void {
  server.close(() => {
    for (const buffer of kept) buffer.close();
    metrics.unregister();
  });
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, end);

server.listen(Number(values.port), '127.0.0.1', () => {
  console.log(`serving http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`);
});
