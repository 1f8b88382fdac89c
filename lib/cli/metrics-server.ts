import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { InvalidArgumentError } from 'commander';
import type { Registry } from 'prom-client';

/** Where to listen: a TCP port of this machine, or a Unix socket. */
export type ListenAddress = { host: string; port: number } | { path: string };

/**
 * Not a port that an exporter of the list at github.com/prometheus/prometheus/wiki/Default-port-allocations has: that list
 * is full from 9100 to 9999.
 */
export const defaultPort = 19189;

const loopback = '127.0.0.1';

/** Clients beyond these are refused, and slower ones cut off. Times are milliseconds. */
const limits = {
  connections: 64,
  headers: 5_000,
  request: 10_000,
  response: 30_000,
  keepAlive: 5_000,
  ending: 2_000,
};

/** Reads `[ADDRESS:]PORT`, `[IPv6]:PORT` or `unix:PATH`. */
export function parseListen(text: string): ListenAddress {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length);
    // Node takes what begins with NUL for an abstract name, and the kernel cuts off what is too long.
    if (path === '' || path.includes('\0') || Buffer.byteLength(path) > 107) {
      throw new InvalidArgumentError('A path of 1 to 107 bytes must follow unix:');
    }
    return { path };
  }
  const [, ipv6, name, digits] = /^(?:(?:\[([\da-fA-F:.]+)\]|([^\s:[\]]+)):)?(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65_535) {
    throw new InvalidArgumentError('It must be PORT, ADDRESS:PORT, [IPv6 ADDRESS]:PORT or unix:PATH');
  }
  return { host: ipv6 ?? name ?? loopback, port };
}

const page = `<!doctype html>
<html lang="en"><title>dmabuf metrics</title>
<h1>dmabuf metrics</h1>
<p><a href="/metrics">/metrics</a>: the dma-bufs of this machine, for Prometheus</p>
</html>
`;

function end(response: ServerResponse, status: number, type: string, text: string): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  response.end(text);
}

async function answer(
  { method, url = '' }: IncomingMessage,
  response: ServerResponse,
  registry: Registry,
): Promise<void> {
  const plain = 'text/plain; charset=utf-8';
  const path = url.split('?', 1)[0];
  if (path !== '/' && path !== '/metrics') {
    end(response, 404, plain, 'There is nothing here; see /metrics\n');
  } else if (method !== 'GET' && method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    end(response, 405, plain, 'Only GET and HEAD are answered\n');
  } else if (path === '/') {
    end(response, 200, 'text/html; charset=utf-8', page);
  } else {
    end(response, 200, registry.contentType, await registry.metrics());
  }
}

/** An HTTP server of a registry's metrics that is not listening yet. */
export function metricsServer(registry: Registry): Server {
  const options = {
    headersTimeout: limits.headers,
    requestTimeout: limits.request,
    keepAliveTimeout: limits.keepAlive,
    connectionsCheckingInterval: 1_000,
  };
  const server = createServer(options, (request, response) => {
    const timer = setTimeout(() => response.destroy(), limits.response);
    response.once('close', () => clearTimeout(timer));
    if (!server.listening) response.setHeader('connection', 'close');
    answer(request, response, registry).catch((error: unknown) => {
      process.stderr.write(`dmabuf metrics: ${String(error)}\n`);
      if (response.headersSent) response.destroy();
      else end(response, 500, 'text/plain; charset=utf-8', 'The metrics could not be collected\n');
    });
  });
  server.maxConnections = limits.connections;
  return server;
}

/** Listens, and resolves with where: as a URL, or as `unix:` and the path. */
export async function listen(server: Server, address: ListenAddress): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(address, () => {
      server.off('error', reject);
      resolve();
    });
  });
  if ('path' in address) return `unix:${address.path}`;
  const { address: host, port, family } = server.address() as AddressInfo;
  return `http://${family === 'IPv6' ? `[${host}]` : host}:${port}/metrics`;
}

/** Lets answers on their way arrive, if they take no longer than 2 s, and resolves when all is closed. */
export async function close(server: Server): Promise<void> {
  const timer = setTimeout(() => server.closeAllConnections(), limits.ending);
  await new Promise((resolve) => {
    server.close(resolve);
    server.closeIdleConnections();
  });
  clearTimeout(timer);
}

/** Why nobody can listen there, on one line, with what to do where one cure is likely. */
export function explainListen(error: NodeJS.ErrnoException, address: ListenAddress): string {
  const where = 'path' in address ? `unix:${address.path}` : `${address.host}:${address.port}`;
  const advice = adviceFor(error.code, address);
  return `cannot listen on ${where}: ${error.code ?? error.message}${advice === undefined ? '' : `: ${advice}`}`;
}

function adviceFor(code: string | undefined, address: ListenAddress): string | undefined {
  const isPath = 'path' in address;
  switch (code) {
    case 'EADDRINUSE':
      return isPath
        ? 'the file exists; remove it if nobody listens there any more'
        : 'another program listens there; choose another port with --listen';
    case 'EACCES':
      // libuv says so too of a folder that does not exist.
      return isPath ? 'the folder does not exist or may not be written' : 'ports below 1024 are for root';
    case 'EADDRNOTAVAIL':
      return 'this machine does not have that address';
    case 'ENOTFOUND':
      return 'there is no such host';
    default:
      return undefined;
  }
}
