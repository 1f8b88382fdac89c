// What `dmabuf metrics` does as an HTTP server, which needs no dma-bufs.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, readFileSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import type { Registry } from 'prom-client';
import { MetricsServer } from '../../lib/cli/metrics-server.js';
import { Folder } from '../support/channels.js';
import { turn } from '../support/event-loop.js';
import { parseExposition, sampled } from '../support/exposition.js';
import { get, metricsCommand, serving } from '../support/metrics-command.js';
import { packageRoot } from '../support/programs.js';
import { Service } from '../support/services.js';

const cli = `${packageRoot}/dist/package/cli.js`;

test('dmabuf metrics answers GET and HEAD of two pages, and nothing else', async () => {
  const [service, url] = await serving();
  await using _service = service;
  const page = await fetch(`${url}/`);
  assert.equal(page.status, 200);
  assert.match(await page.text(), /<a href="\/metrics">/);
  const head = await fetch(`${url}/metrics`, { method: 'HEAD' });
  assert.equal(head.status, 200);
  assert.equal(await head.text(), '');
  for (const path of ['/metrics/', '/favicon.ico', '//', '/metrics%20']) {
    const response = await fetch(`${url}${path}`);
    assert.equal(response.status, 404, path);
    await response.text();
  }
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
    const response = await fetch(`${url}/metrics`, { method });
    assert.equal(response.status, 405, method);
    assert.equal(response.headers.get('allow'), 'GET, HEAD');
    await response.text();
  }
  assert.equal(await service.end('SIGINT'), 0);
});

test('dmabuf metrics listens on a Unix socket, and removes it at the end', async () => {
  using folder = new Folder();
  const socketPath = folder.file();
  await using service = metricsCommand(['--listen', `unix:${socketPath}`]);
  assert.equal(await service.says(/serving (.+)/), `unix:${socketPath}`);
  assert.equal(lstatSync(socketPath).mode & 0o777, 0o777 & ~process.umask());
  const asked = request({ socketPath, path: '/metrics' }).end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  assert.equal(sampled(parseExposition(await text(response)), 'dmabuf_scrape_success'), 1);
  assert.equal(await service.end('SIGTERM'), 0);
  assert.equal(existsSync(socketPath), false);
});

test('why it cannot listen on a Unix socket is said in one line', async () => {
  using folder = new Folder();
  writeFileSync(folder.file('file'), '');
  for (const [name, code, advice] of [
    ['file', 'EADDRINUSE', 'There is a file that is not a socket; it was not touched.'],
    ['none/socket', 'ENOENT', 'The folder does not exist.'],
  ] as const) {
    await using service = metricsCommand(['--listen', `unix:${folder.file(name)}`]);
    assert.equal(await service.ended, 2);
    assert.deepEqual(service.said, [
      `dmabuf metrics: cannot listen on unix:${folder.file(name)}: ${code}. ${advice}`,
    ]);
  }
});

test('dmabuf metrics replaces the socket of one that was killed, and never that of one that lives', async () => {
  using folder = new Folder();
  const args = ['--listen', `unix:${folder.file()}`];
  await using killed = metricsCommand(args);
  await killed.says(/serving (.+)/);
  assert.equal(await killed.end('SIGKILL'), 'SIGKILL');
  assert.equal(existsSync(folder.file()), true);
  await using service = metricsCommand(args);
  await service.says(/serving (.+)/);
  await using second = metricsCommand(args);
  assert.equal(await second.ended, 2);
  assert.deepEqual(second.said, [
    `dmabuf metrics: cannot listen on unix:${folder.file()}: EADDRINUSE. A server listens there.`,
  ]);
  const asked = request({ socketPath: folder.file(), path: '/metrics' }).end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  assert.match(await text(response), /dmabuf_scrape_success 1/);
  assert.equal(await service.end('SIGTERM'), 0);
});

/** How it may end while metrics are being collected: a busy machine may take long for that. */
const endings: readonly (number | string)[] = [0, 'SIGTERM'];

/** A connection to the server, which may break off at any time. */
async function open(url: string): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** When it is closed, also by a reset. */
function closeOf(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once('close', () => resolve()));
}

/** What the server answers to these bytes until it ends the connection. */
async function exchange(url: string, bytes: string): Promise<string> {
  const socket = await open(url);
  socket.write(bytes);
  let answer = '';
  socket.setEncoding('latin1').on('data', (part: string) => {
    answer += part;
  });
  await closeOf(socket);
  return answer;
}

const request11 = (headers: string): string => `GET /metrics HTTP/1.1\r\n${headers}Connection: close\r\n\r\n`;
const statusIn = (answer: string): number => Number(/^HTTP\/1\.1 (\d+) /.exec(answer)?.[1]);

test('clients that send nothing are cut off, and meanwhile those that ask are served', async () => {
  const [service, url] = await serving();
  await using _service = service;
  const closed: Promise<unknown>[] = [];
  for (let count = 0; count < 200; count++) {
    const socket = await open(url);
    closed.push(closeOf(socket.resume()));
    socket.write('GET /metrics HTTP/1.1\r\nhost: localhost\r\nx-slow: ');
  }
  assert.equal(sampled(await get(`${url}/metrics`), 'dmabuf_scrape_success'), 1);
  await Promise.all(closed);
  // A connection that is open and silent does not hold it up.
  const idle = await open(url);
  assert.equal(await service.end('SIGTERM'), 0);
  idle.destroy();
});

test('empty lines keep no connection open', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const registry = { contentType: 'text/plain', metrics: async () => '' } as unknown as Registry;
  const server = new MetricsServer(registry, []);
  const socket = await open(await server.listen({ host: '127.0.0.1', port: 0 }));
  socket.resume().write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await once(socket, 'data');
  // Each time it is later by a minute.
  for (let count = 0; count < 1000 && !socket.closed; count++) {
    socket.write('\r\n');
    t.mock.timers.tick(60_000);
    await turn();
  }
  assert.ok(socket.closed);
  await server.close();
});

test('clients that do not take their answers make room for those that do', async () => {
  const [service, url] = await serving();
  await using _service = service;
  const sockets: Socket[] = [];
  for (let count = 0; count < 100; count++) {
    const socket = await open(url);
    sockets.push(socket.pause());
    socket.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(16));
  }
  assert.equal(sampled(await get(`${url}/metrics`), 'dmabuf_scrape_success'), 1);
  assert.ok(endings.includes(await service.end('SIGTERM')));
  for (const socket of sockets) socket.destroy();
});

test('clients that ask for more make room for one that has not asked yet', async () => {
  let finish = (_text: string): void => {};
  const collected = new Promise<string>((resolve) => {
    finish = resolve;
  });
  const registry = { contentType: 'text/plain', metrics: () => collected } as unknown as Registry;
  const server = new MetricsServer(registry, []);
  const url = new URL(await server.listen({ host: '127.0.0.1', port: 0 })).origin;
  const sockets: Socket[] = [];
  const ask = async (socket: Socket, requests: string): Promise<void> => {
    assert.equal(socket.destroyed, false, 'ended by the server');
    socket.write(requests);
    assert.match(String(await Promise.race([once(socket, 'data'), closeOf(socket)])), /^HTTP\/1\.1 404/);
  };
  const nothing = 'GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n';
  const metrics = nothing.replace('nothing', 'metrics');
  try {
    for (let count = 0; count < 63; count++) {
      const socket = await open(url);
      sockets.push(socket);
      await ask(socket, nothing + metrics.repeat(3));
    }
    const silent = await open(url);
    const last = await open(url);
    sockets.push(silent, last);
    await ask(last, nothing);
    await ask(silent, nothing);
  } finally {
    finish('');
    for (const socket of sockets) socket.destroy();
    await server.close();
  }
});

test('a few requests that come at once are answered in their order', async () => {
  const [service, url] = await serving();
  await using _service = service;
  const paths = ['/', '/nothing', '/metrics'];
  const requests = paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  const answer = await exchange(url, requests.join('') + request11('Host: localhost\r\n'));
  assert.deepEqual(
    answer.match(/^HTTP\/1\.1 \d+/gm),
    [200, 404, 200, 200].map((code) => `HTTP/1.1 ${code}`),
  );
});

test('a connection is for a bounded number of requests', async () => {
  const [service, url] = await serving();
  await using _service = service;
  const socket = await open(url);
  let answers = 0;
  const ended = closeOf(socket);
  const ask = (): boolean => socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  socket.setEncoding('latin1').on('data', (part: string) => {
    if (!part.includes('HTTP/1.1 200')) return;
    answers++;
    ask();
  });
  ask();
  await ended;
  assert.equal(answers, 100);
});

test('any number of requests that nobody takes the answers of costs no memory', async () => {
  const [service, url] = await serving();
  await using _service = service;
  const residentMiB = (): number =>
    Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${service.pid}/status`, 'latin1'))?.[1]) / 1024;
  await get(`${url}/metrics`);
  const before = residentMiB();
  for (const line of [
    'GET /metrics HTTP/1.1',
    'GET /metrics HTTP/1.1\r\nExpect: nothing',
    'GET / HTTP/1.1',
  ]) {
    const socket = await open(url);
    const ended = closeOf(socket);
    socket.pause().write(`${line}\r\nHost: localhost\r\n\r\n`.repeat(50_000), () => socket.resume());
    await ended;
    assert.equal(sampled(await get(`${url}/metrics`), 'dmabuf_scrape_success'), 1);
  }
  assert.ok(residentMiB() < before + 64, `${before} MiB became ${residentMiB()} MiB`);
});

test('requests have to name a host that is meant', async () => {
  const [service, url] = await serving(['--allow-host', 'Camera-3.example', '--allow-host', '192.0.2.7']);
  await using _service = service;
  const { host, port } = new URL(url);
  const meant = [
    'localhost',
    `localhost:${port}`,
    'LOCALHOST.',
    host,
    '127.0.0.5',
    '127.1',
    '[::1]:80',
    '[::ffff:127.0.0.1]',
  ];
  for (const name of [...meant, 'camera-3.example', 'camera-3.example:1', '192.0.2.7']) {
    assert.equal(statusIn(await exchange(url, request11(`Host: ${name}\r\n`))), 200, name);
  }
  const others = [
    'evil.example',
    `evil.example:${port}`,
    'localhost.evil.example',
    '192.0.2.8',
    '127.0.0.1.evil',
  ];
  for (const name of [...others, 'notlocalhost', '[::2]', '[::ffff:192.0.2.8]', 'xcamera-3.example']) {
    assert.equal(statusIn(await exchange(url, request11(`Host: ${name}\r\n`))), 421, name);
  }
  const malformed = [
    'a@localhost',
    'localhost/',
    'evil.example#localhost',
    '[::1',
    'local host',
    '.',
    '127.0.0.1:x',
  ];
  for (const name of malformed) {
    assert.equal(statusIn(await exchange(url, request11(`Host: ${name}\r\n`))), 400, name);
  }
  assert.equal(statusIn(await exchange(url, request11(''))), 400, 'no host');
  assert.equal(statusIn(await exchange(url, request11('Host: \r\n'))), 400, 'an empty host');
  assert.equal(statusIn(await exchange(url, request11('Host: localhost\r\nhost: evil.example\r\n'))), 400);
  assert.equal(statusIn(await exchange(url, 'GET /metrics HTTP/1.0\r\n\r\n')), 200, 'HTTP/1.0');
});

test('nothing is told to who names another host', async () => {
  const [service, url] = await serving();
  await using _service = service;
  for (const path of ['/metrics', '/', '/nothing']) {
    const answer = await exchange(url, `GET ${path} HTTP/1.1\r\nHost: evil.example\r\n\r\n`);
    assert.match(answer, /^HTTP\/1\.1 421 /);
    assert.doesNotMatch(answer, /dma/i);
  }
});

test('a name to listen on is a name to ask by', async () => {
  await using service = metricsCommand(['--listen', 'localhost:0']);
  const url = await service.says(/serving (http:.+)\/metrics$/);
  assert.equal((await fetch(url)).status, 200);
});

test('names that are none are an error of usage', async () => {
  for (const name of ['', 'a b', 'name:80', '[::1]:80', 'http://name', '*', '.']) {
    await using service = metricsCommand(['--allow-host', name]);
    assert.equal(await service.ended, 2, name);
    assert.match(service.said.join('\n'), /the name or the address of a host/);
  }
});

test('it ends while clients are silent, slow, or do not take their answers', async () => {
  const [service, url] = await serving();
  await using _service = service;
  const sockets = [await open(url), await open(url), await open(url)];
  sockets[1]?.write('GET /metrics HTTP/1.1\r\nHost: local');
  sockets[2]?.pause().write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(10));
  await get(`${url}/metrics`);
  assert.ok(endings.includes(await service.end('SIGTERM')));
  for (const socket of sockets) socket.destroy();
});

test('it ends while something in its threads does not', { timeout: 60_000 }, async () => {
  using folder = new Folder();
  const fifo = folder.file('fifo');
  assert.equal(spawnSync('mkfifo', [fifo]).status, 0);
  // As a look at a process that keeps it waiting.
  const script = `import { open } from 'node:fs';
    process.on('SIGUSR2', () => { open(${JSON.stringify(fifo)}, 'r', () => {}); console.log('waiting'); });`;
  const preload = `--import=data:text/javascript,${encodeURIComponent(script)}`;
  await using service = new Service(process.execPath, [preload, cli, 'metrics', '--listen', '0']);
  await service.says(/serving (http:.+)\/metrics$/);
  process.kill(service.pid, 'SIGUSR2');
  await service.says(/^waiting$/);
  assert.equal(await service.end('SIGTERM'), 'SIGTERM');
});

test('it goes on when nobody reads what it says any more', async () => {
  const script = `exec 3>&1; { "$@" 2>&1 >&3 3>&- & echo "$!" >&3; } | { read -r line; echo "$line" >&3; }; wait`;
  const args = ['-c', script, 'sh', process.execPath, cli, 'metrics'];
  await using service = new Service('sh', [...args, '--listen', '0', '--source', 'debugfs']);
  const pid = Number(await service.says(/^(\d+)$/));
  const url = await service.says(/serving (http:.+)\/metrics$/);
  try {
    // Without rights or debugfs each scrape has something to say; with them, nothing is shown here.
    for (let count = 0; count < 3; count++) await get(`${url}/metrics`);
  } finally {
    process.kill(pid, 'SIGKILL');
  }
});
