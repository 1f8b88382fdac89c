import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, isIPv4, isIPv6, type Socket } from 'node:net';
import { InvalidArgumentError } from 'commander';
import type { Registry } from 'prom-client';
import { listenForStreams, type StreamSocket } from '../channel/stream-socket.js';
import { DmaBufError } from '../errors.js';
import { note } from './output.js';

/** Where to listen: a TCP port of this machine, or a Unix socket. */
export type ListenAddress = { host: string; port: number } | { path: string };

/**
 * A port that no exporter in the list at github.com/prometheus/prometheus/wiki/Default-port-allocations uses: the list is
 * full from 9100 to 9999.
 */
export const defaultPort = 19189;

const loopback = '127.0.0.1';

/** Clients that are slower, or request more, are disconnected. Times are in milliseconds. */
const limits = {
  /**
   * One more closes a connection whose requests are all answered, otherwise one with several pending requests, otherwise
   * one that delays the server.
   */
  connections: 64,
  /** After so many requests a connection ends. */
  requests: 100,
  /** Requests of one connection that wait for the answer to an earlier one: more end it. */
  waiting: 16,
  headers: 5_000,
  request: 10_000,
  response: 30_000,
  keepAlive: 5_000,
  /** The time for unfinished answers when the server ends. */
  ending: 1_000,
};

/** Reads `[ADDRESS:]PORT`, `[IPv6]:PORT` or `unix:PATH`. */
export function parseListen(text: string): ListenAddress {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length);
    // For the kernel, a path that begins with NUL is an abstract name.
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

/** Reads a name or an address that requests may use, without a port, and adds it to the previous ones. */
export function parseHost(text: string, before: readonly string[] = []): string[] {
  const host = hostOf(isIPv6(text) ? `[${text}]` : text);
  if (host === undefined || /[^:\]]:\d*$|\]:/.test(isIPv6(text) ? '' : text)) {
    throw new InvalidArgumentError('It must be the name or the address of a host, without a port.');
  }
  return [...before, host];
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

const plain = 'text/plain; charset=utf-8';

/**
 * The host in a header `Host`, in the form of URLs; undefined when it is not a host. Ports and a final dot are ignored. An IPv4
 * address may be written as one of IPv6 (`::ffff:127.0.0.1`).
 */
function hostOf(header: string): string | undefined {
  if (!/^(?:\[[\da-f:.]+\]|[\w.-]+)(?::\d{0,5})?$/i.test(header)) return undefined;
  try {
    const host = new URL(`http://${header}`).hostname.replace(/\.$/, '');
    const [, high, low] = /^\[::ffff:([\da-f]+):([\da-f]+)\]$/.exec(host) ?? [];
    if (high === undefined) return host || undefined;
    return new URL(`http://0x${high}${low?.padStart(4, '0')}`).hostname;
  } catch {
    return undefined;
  }
}

/** An address of a socket in the form of URLs. */
function addressOf({ localAddress = '' }: Socket): string | undefined {
  const address = localAddress.replace(/%.*$/, '');
  return hostOf(isIPv6(address) ? `[${address}]` : address);
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || (isIPv4(host) && host.startsWith('127.'));
}

/**
 * The status for a request with this host; 200 if the host is allowed. A page that a browser has loaded from another host
 * cannot read this server's answers, unless the name of that host is made to resolve to this machine (DNS rebinding):
 * then the browser sends that name.
 */
function statusOfHost(
  { rawHeaders, httpVersion, socket }: IncomingMessage,
  allowed: ReadonlySet<string>,
): number {
  const headers = rawHeaders.filter(
    (_, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === 'host',
  );
  const [header] = headers;
  // Only browsers matter, which always send one; RFC 9112 requires it of every client of HTTP/1.1.
  if (header === undefined && httpVersion === '1.0') return 200;
  const host = hostOf(header ?? '');
  if (host === undefined || headers.length > 1) return 400;
  // Browsers cannot connect to Unix sockets.
  if (socket.localAddress === undefined) return 200;
  return isLoopback(host) || host === addressOf(socket) || allowed.has(host) ? 200 : 421;
}

/** What a server's requests have in common. */
interface Service {
  /** The present metrics. Requests that arrive while they are being collected get the same. */
  collect: () => Promise<string>;
  contentType: string;
  allowedHosts: Set<string>;
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { collect, contentType, allowedHosts }: Service,
): Promise<void> {
  const { method, url = '' } = request;
  const status = statusOfHost(request, allowedHosts);
  const path = url.split('?', 1)[0];
  if (status !== 200) {
    response.setHeader('connection', 'close');
    const text =
      status === 421 ? 'This host is not served here; see --allow-host\n' : 'One header Host is needed\n';
    end(response, status, plain, text);
  } else if (path !== '/' && path !== '/metrics') {
    end(response, 404, plain, 'There is nothing here; see /metrics\n');
  } else if (method !== 'GET' && method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    end(response, 405, plain, 'Only GET and HEAD are answered\n');
  } else if (path === '/') {
    end(response, 200, 'text/html; charset=utf-8', page);
  } else {
    end(response, 200, contentType, await collect());
  }
}

/** One client's connection. Its requests are answered one after the other, each when the previous answer was sent. */
class Connection {
  readonly #socket: Socket;
  readonly #serve: (request: IncomingMessage, response: ServerResponse) => Promise<void>;
  readonly #waiting: [IncomingMessage, ServerResponse][] = [];
  #timer: NodeJS.Timeout | undefined;
  #requests = 0;
  #isAnswering = false;
  #isCollecting = false;

  constructor(socket: Socket, serve: (request: IncomingMessage, response: ServerResponse) => Promise<void>) {
    this.#socket = socket;
    this.#serve = serve;
  }

  /** Whether no request waits for an answer. */
  get isIdle(): boolean {
    return !this.#isAnswering;
  }

  /** Whether all its requests were answered. */
  get isServed(): boolean {
    return this.isIdle && this.#requests > 0;
  }

  /** Whether it waits for its client, not for this machine: for a request, or until the client reads an answer. */
  get waitsForClient(): boolean {
    return !this.#isCollecting;
  }

  /** Whether it sent another request before it got an answer. */
  get wantsMore(): boolean {
    return this.#waiting.length > 0;
  }

  take(request: IncomingMessage, response: ServerResponse): void {
    if (this.#socket.destroyed) return;
    if (this.#waiting.length >= limits.waiting) {
      this.end();
      return;
    }
    if (++this.#requests >= limits.requests) response.setHeader('connection', 'close');
    this.#waiting.push([request, response]);
    if (!this.#isAnswering) this.#next();
  }

  #next(): void {
    clearTimeout(this.#timer);
    const [request, response] = this.#waiting.shift() ?? [];
    this.#isAnswering = request !== undefined;
    if (request === undefined || response === undefined) {
      if (this.#socket.destroyed) return;
      // Empty lines are no request, and yet Node.js goes on waiting for one as long as they come.
      this.#timer = setTimeout(() => this.end(), limits.keepAlive + limits.headers);
      return;
    }
    this.#timer = setTimeout(() => this.end(), limits.response);
    response.once('close', () => {
      // This was the last answer: further requests get none.
      if (!this.#socket.writable) this.#waiting.length = 0;
      this.#next();
    });
    this.#isCollecting = true;
    void this.#serve(request, response).finally(() => {
      this.#isCollecting = false;
    });
  }

  end(): void {
    this.#waiting.length = 0;
    clearTimeout(this.#timer);
    this.#socket.destroy();
  }
}

/** An HTTP server of a registry's metrics, and its connections. */
export class MetricsServer {
  readonly #service: Service;
  /** In the order in which they began or last got an answer. */
  readonly #connections = new Map<Socket, Connection>();
  readonly #server: Server;
  #socket: StreamSocket | undefined;

  /** `hosts`: the names, besides those of loopback and of the address that it listens on, by which clients may call it. */
  constructor(registry: Registry, hosts: readonly string[]) {
    let collecting: Promise<string> | undefined;
    this.#service = {
      contentType: registry.contentType,
      allowedHosts: new Set(hosts),
      collect() {
        collecting ??= registry.metrics().finally(() => {
          collecting = undefined;
        });
        return collecting;
      },
    };
    const take = (request: IncomingMessage, response: ServerResponse): void =>
      this.#connections.get(request.socket)?.take(request, response);
    this.#server = createServer(
      {
        headersTimeout: limits.headers,
        requestTimeout: limits.request,
        keepAliveTimeout: limits.keepAlive,
        connectionsCheckingInterval: 1_000,
        // The answer says why.
        requireHostHeader: false,
      },
      take,
    );
    // Node.js would answer these itself, in any number.
    this.#server.on('checkExpectation', take);
    this.#server.on('connection', (socket) => this.#begin(socket));
  }

  #begin(socket: Socket): void {
    const connection = new Connection(socket, (request, response) => this.#serve(request, response));
    this.#connections.set(socket, connection);
    socket.once('close', () => {
      this.#connections.delete(socket);
      connection.end();
    });
    if (this.#connections.size <= limits.connections) return;
    // A client that sends its request at once is served, however many others keep connections open, send more requests,
    // or do not read their answers. The request of a new connection may not have been read yet: it is the last one of
    // those that wait for their clients.
    const others = [...this.#connections.values()].slice(0, -1);
    const last =
      others.find(({ isServed }) => isServed) ??
      others.find(({ wantsMore }) => wantsMore) ??
      others.find(({ waitsForClient }) => waitsForClient);
    (last ?? connection).end();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!this.#server.listening) response.setHeader('connection', 'close');
    try {
      await answer(request, response, this.#service);
    } catch (error) {
      note('metrics', String(error));
      if (response.headersSent) response.destroy();
      else end(response, 500, plain, 'The metrics could not be collected\n');
    }
    const connection = this.#connections.get(request.socket);
    if (connection === undefined) return;
    this.#connections.delete(request.socket);
    this.#connections.set(request.socket, connection);
  }

  /**
   * Listens, and resolves with the address: a URL, or `unix:` and the path.
   *
   * @throws DmaBufError with the errno's name, or Node.js's code, and what to do if one fix is likely
   */
  async listen(address: ListenAddress): Promise<string> {
    try {
      await this.#bind('path' in address ? this.#openSocket(address.path) : address);
    } catch (error) {
      throw cannotListen(error, address);
    }
    if ('path' in address) return `unix:${address.path}`;
    const named = hostOf(isIPv6(address.host) ? `[${address.host}]` : address.host);
    if (named !== undefined) this.#service.allowedHosts.add(named);
    const { address: host, port, family } = this.#server.address() as AddressInfo;
    return `http://${family === 'IPv6' ? `[${host}]` : host}:${port}/metrics`;
  }

  /** Node.js would look up the path on this thread, which would block while a file system on the way does not answer. */
  #openSocket(path: string): { fd: number } {
    this.#socket = listenForStreams(path);
    return { fd: this.#socket.fd };
  }

  #bind(address: { host: string; port: number } | { fd: number }): Promise<void> {
    const server = this.#server;
    return new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(address, () => {
        server.off('error', reject);
        resolve();
      });
    });
  }

  /** Lets unfinished answers arrive, if they take no longer than a second, and resolves when everything is closed. */
  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#server.close(resolve));
    this.#socket?.close();
    for (const connection of this.#connections.values()) if (connection.isIdle) connection.end();
    const timer = setTimeout(() => {
      for (const connection of this.#connections.values()) connection.end();
    }, limits.ending);
    await ended;
    clearTimeout(timer);
  }
}

function cannotListen(cause: unknown, address: ListenAddress): DmaBufError {
  const where = 'path' in address ? `unix:${address.path}` : `${address.host}:${address.port}`;
  const { code, errno, syscall, message } = cause as NodeJS.ErrnoException;
  const hint = cause instanceof DmaBufError ? cause.hint : adviceFor(code);
  return new DmaBufError(`cannot listen on ${where}: ${code ?? message}`, {
    code: code ?? 'EINVAL',
    errno,
    syscall,
    hint,
    cause,
  });
}

/** Advice for a TCP port; errors about a path have their own. */
function adviceFor(code: string | undefined): string | undefined {
  switch (code) {
    case 'EADDRINUSE':
      return 'Another program listens there; choose another port with --listen';
    case 'EACCES':
      return 'Ports below 1024 are for root';
    case 'EADDRNOTAVAIL':
      return 'This machine does not have that address';
    case 'ENOTFOUND':
      return 'There is no such host';
    default:
      return undefined;
  }
}
