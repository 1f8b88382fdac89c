// What `dmabuf metrics` does as an HTTP server, which needs no dma-bufs.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { Folder } from '../support/channels.js';
import { parseExposition, sampled } from '../support/exposition.js';
import { get, metricsCommand, serving } from '../support/metrics-command.js';

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
    ['file', 'EADDRINUSE', 'the file exists; remove it if nobody listens there any more'],
    ['none/socket', 'EACCES', 'the folder does not exist or may not be written'],
  ] as const) {
    await using service = metricsCommand(['--listen', `unix:${folder.file(name)}`]);
    assert.equal(await service.ended, 2);
    assert.deepEqual(service.said, [
      `dmabuf metrics: cannot listen on unix:${folder.file(name)}: ${code}: ${advice}`,
    ]);
  }
});

test('clients that send nothing are cut off, and meanwhile too many are refused', async () => {
  const [service, url] = await serving();
  await using _service = service;
  const port = Number(new URL(url).port);
  const open = async (): Promise<Socket> => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    await once(socket, 'connect');
    return socket;
  };
  const closed: Promise<unknown>[] = [];
  for (let count = 0; count < 64; count++) {
    const socket = await open();
    closed.push(once(socket.resume(), 'close'));
    socket.write('GET /metrics HTTP/1.1\r\nhost: localhost\r\nx-slow: ');
  }
  // Nobody answers it: it is closed before the others have had their time.
  const refused = await open();
  const first = await Promise.race([
    once(refused.resume(), 'close').then(() => 'refused'),
    ...closed.map((close) => close.then(() => 'slow')),
  ]);
  assert.equal(first, 'refused');
  await Promise.all(closed);
  assert.equal(sampled(await get(`${url}/metrics`), 'dmabuf_scrape_success'), 1);
  // A connection that is open and silent does not hold it up.
  const idle = await open();
  assert.equal(await service.end('SIGTERM'), 0);
  idle.destroy();
});
