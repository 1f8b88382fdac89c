// The examples, as their readers start them. What they print is what is asserted; besides, each must close all that it
// opens before it ends, and leave no buffer in the kernel.

import assert from 'node:assert/strict';
import { type ExecFileOptions, execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { buffer as readAll } from 'node:stream/consumers';
import { test } from 'node:test';
import { allocateSync, type DmaBuf, DmaBufChannel } from 'dmabuf';
import { snapshot } from 'dmabuf/inspect';
import { Folder } from '../../../support/channels.js';
import { turns } from '../../../support/event-loop.js';
import { sampled } from '../../../support/exposition.js';
import { addFence, type Fence, noFences } from '../../../support/fences.js';
import { kernelTest, type TestBody } from '../../../support/kernel-test.js';
import { endOf, get, holder } from '../../../support/metrics-command.js';
import { packageRoot } from '../../../support/programs.js';
import { Service } from '../../../support/services.js';

const preload = new URL('../../../support/open-at-exit.js', import.meta.url);
const env = { ...process.env, NODE_OPTIONS: `--import=${preload}` };

const fileOf = (name: string): string => join(packageRoot, `dist/examples/${name}.js`);

interface Ended {
  code: unknown;
  stdout: string;
  stderr: string;
}

/** Runs an example to its end. */
function run(name: string, args: readonly string[] = [], options: ExecFileOptions = {}): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, [fileOf(name), ...args], { env, ...options }, (error, stdout, stderr) => {
      resolve({
        code: error === null ? 0 : (error.code ?? error.signal),
        stdout: `${stdout}`,
        stderr: `${stderr}`,
      });
    });
  });
}

/** What an example prints that ends well. */
async function outputOf(name: string, args?: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(name, args);
  assert.equal(stderr, '');
  assert.equal(code, 0);
  return stdout;
}

function start(name: string, ...args: string[]): Service {
  return new Service(process.execPath, [fileOf(name), ...args], { env });
}

const inodes = async (): Promise<number[]> => (await snapshot()).buffers.map(({ inode }) => inode);

/** A test that fails when there is a buffer on the machine afterwards that was not there before. */
function exampleTest(name: string, body: TestBody, unless: string | false = false): void {
  kernelTest(
    name,
    async (t) => {
      const before = await inodes();
      await body(t);
      const left = (await inodes()).filter((inode) => !before.includes(inode));
      assert.deepEqual(left, [], 'the example has left buffers behind');
    },
    unless,
  );
}

test('the guide names every example, and no other', () => {
  const guide = readFileSync(join(packageRoot, 'docs/examples.md'), 'utf8');
  const named = [...guide.matchAll(/\]\(\.\.\/examples\/([^)]+)\)/g)].map(([, path]) => path);
  const folder = join(packageRoot, 'examples');
  assert.deepEqual([...new Set(named)].sort(), readdirSync(folder).sort());
  for (const [, path = ''] of guide.matchAll(/node dist\/(examples\/\S+)\.js/g)) {
    assert.ok(existsSync(join(packageRoot, `${path}.ts`)), path);
  }
});

exampleTest('allocate: the first source that can serve is taken, and the bytes are read back', async () => {
  const output = await outputOf('allocate', ['no-such-heap', 'udmabuf', 'system']);
  assert.match(output, /^\/dev\/dma_heap\/system \(system\): usable$/m);
  assert.match(output, /^no-such-heap: ENOENT: .*Heaps here: system\.$/m);
  assert.match(output, /^udmabuf: serves, by the exporter 'udmabuf'$/m);
  assert.match(output, /^system: serves, by the exporter 'system'$/m);
  assert.match(output, /^Allocated 8294400 bytes from udmabuf: fd \d+, inode \d+$/m);
  assert.match(output, /^Its last bytes: 128 128 128 1 2 3$/m);
});

exampleTest('allocate: without arguments it finds a source here', async () => {
  assert.match(await outputOf('allocate'), /^Allocated 8294400 bytes from \w+: /m);
});

exampleTest('allocate: who may use no heap is told what to do about it', async () => {
  const { code, stdout, stderr } = await run('allocate', ['system'], { uid: 65_534, gid: 65_534 });
  assert.match(stdout, /^\/dev\/dma_heap\/system \(system\): EACCES$/m);
  assert.match(stdout, /^system: EACCES: .* udev rule/m);
  assert.match(stdout, /^ERR_DMABUF_NO_SOURCE: .*:\n {2}system: EACCES: .* udev rule/m);
  assert.doesNotMatch(stdout, /Allocated/);
  assert.equal(stderr, '');
  assert.equal(code, 1);
});

exampleTest('share: the child verifies the bytes, and what it writes is seen by the parent', async () => {
  assert.match(
    await outputOf('share'),
    /^child: got 'share-example', inode \d+\nparent: the child says: verified and inverted 262144 bytes\nparent: all 262144 bytes are inverted here, too\n$/,
  );
});

exampleTest('fence: a buffer that no device uses is ready at once', async () => {
  const lines = (await outputOf('fence')).split('\n');
  assert.deepEqual(
    lines.filter((line) => !line.startsWith('fences: ')),
    [
      'ready to read: true, to write: true',
      'ready within 20 ms',
      'waiting',
      'done: fences signaled, the first byte is 0',
      '',
    ],
  );
  assert.match(lines.find((line) => line.startsWith('fences: ')) ?? '', /^fences: signaled /);
});

/** Runs fence.ts on a buffer that a device begins to write when the example asks for it. */
async function onBusyBuffer(
  args: readonly string[],
  body: (example: Service, buffer: DmaBuf, fence: Fence) => Promise<void>,
): Promise<void> {
  using folder = new Folder();
  using server = DmaBufChannel.listen(folder.file());
  await using example = start('fence', '--path', folder.file(), ...args);
  using buffer = allocateSync(4096);
  for await (const channel of server) {
    using fence = addFence(buffer, 'write');
    await channel.send('busy', [buffer]);
    channel.close();
    await body(example, buffer, fence);
    break;
  }
  server.close();
  await turns();
}

const whileBusy = [
  'ready to read: false, to write: false',
  'still busy after 20 ms',
  'fences: active (vgem)',
  'waiting',
];

exampleTest(
  'fence: the bytes are read when the device is done, and not before',
  () =>
    onBusyBuffer([], async (example, buffer, fence) => {
      await example.says(/^waiting$/);
      assert.deepEqual(example.said, whileBusy);
      // The device's last write. The test's own access would wait for the fence as well, so there is none.
      using mapping = buffer.map();
      mapping.bytes[0] = 42;
      fence.signal();
      assert.equal(await example.ended, 0);
      assert.deepEqual(example.said, [...whileBusy, 'done: fences signaled, the first byte is 42']);
    }),
  noFences,
);

exampleTest(
  'fence: Ctrl-C ends the wait',
  () =>
    onBusyBuffer([], async (example) => {
      await example.says(/^waiting$/);
      assert.equal(await example.end('SIGINT'), 1);
      assert.deepEqual(example.said, [...whileBusy, 'gave up: interrupted']);
    }),
  noFences,
);

exampleTest(
  'fence: the time limit ends the wait',
  () =>
    onBusyBuffer(['--timeout', '1'], async (example) => {
      assert.equal(await example.ended, 1);
      assert.deepEqual(example.said.slice(0, -1), whileBusy);
      assert.match(example.said.at(-1) ?? '', /^gave up: ETIMEDOUT: .* after 1 ms$/);
    }),
  noFences,
);

exampleTest('planes: both planes are described where their bytes are', async () => {
  const output = await outputOf('planes');
  const end = output.indexOf('\n}\n') + 2;
  const info = JSON.parse(output.slice(0, end)) as { handle: { nativePixmap: { planes: { fd: number }[] } } };
  const { planes } = info.handle.nativePixmap;
  const fd = planes[0]?.fd;
  assert.ok(fd !== undefined && fd > 2);
  assert.deepEqual(info, {
    pixelFormat: 'nv12',
    codedSize: { width: 1920, height: 1080 },
    visibleRect: { x: 0, y: 0, width: 1920, height: 1080 },
    handle: {
      nativePixmap: {
        planes: [
          { fd, offset: 0, stride: 2048, size: 2048 * 1080 },
          { fd, offset: 2048 * 1080, stride: 2048, size: 2048 * 540 },
        ],
        modifier: '0',
        supportsZeroCopyWebGpuImport: false,
      },
    },
  });
  assert.deepEqual(output.slice(end).trim().split('\n'), [
    'pixel 0, 0: Y U V 16 90 240',
    'pixel 1919, 0: Y U V 235 90 240',
    'pixel 960, 540: Y U V 126 90 240',
    'pixel 1919, 1079: Y U V 235 90 240',
    'a tiled buffer of an Intel GPU: modifier "72057594037927945"; as a number it would be 72057594037927950',
  ]);
});

exampleTest('inspect: it sees what others hold, what it allocates, and what it has not closed', async (t) => {
  const child = await holder(t);
  const output = await outputOf('inspect');
  assert.match(output, /^\d+ buffers, \d+ bytes, as [a-z and]+ tell$/m);
  assert.match(output, new RegExp(`^process ${child.pid} "\\w+": share 8192 of 8192 bytes$`, 'm'));
  assert.match(output, /^appeared: inode \d+, 1048576 bytes from system, named "inspect-example"$/m);
  assert.match(output, /^grown: process \d+ "\w+" by 1048576 bytes$/m);
  assert.match(
    output,
    /^open here: DmaBuf, fd \d+, 1048576 bytes, made at .*examples\/inspect\.js:\d+:\d+$/m,
  );
  assert.match(output, /^open here after close\(\): 0$/m);
  await endOf(child);
});

const frameSize = 1920 * 1080 * 4;

/** The service, and the URL that it serves. */
async function serve(...args: string[]): Promise<[Service, string]> {
  const service = start('service', '--port', '0', ...args);
  return [service, await service.says(/^serving (http:.+)$/)];
}

/** Ends the service as its reader does; it must not have said anything but where it serves. */
async function endWell(service: Service, url: string): Promise<void> {
  assert.equal(await service.end('SIGTERM'), 0);
  assert.deepEqual(service.said, [`serving ${url}`]);
}

/** Asserts that an answer is a whole frame. */
function assertFrame(bytes: Buffer, frame: unknown): void {
  assert.equal(bytes.length, frameSize);
  assert.ok(
    bytes.equals(Buffer.alloc(frameSize, Number(frame))),
    `these are not the bytes of frame ${frame}`,
  );
}

/** Asks for a frame and reads all of it. */
async function takeFrame(url: string): Promise<number> {
  const response = await fetch(`${url}/frames`, { method: 'POST' });
  assert.equal(response.status, 200, await (response.ok ? '' : response.text()));
  const frame = Number(response.headers.get('x-frame'));
  assertFrame(Buffer.from(await response.arrayBuffer()), frame);
  return frame;
}

/**
 * Has the service make its first buffer: on a slow machine the kernel takes longer to clear the pages than a test wants
 * requests to wait. How many frames that took.
 */
async function warmUp(url: string): Promise<number> {
  for (let tries = 0; tries < 1000; tries++) {
    const response = await fetch(`${url}/frames`, { method: 'POST' });
    await response.arrayBuffer();
    if (response.status !== 200) continue;
    await scrapeUntil(url, 'frames_pool_buffers', 0, { state: 'in_use' });
    return Number(response.headers.get('x-frame')) + 1;
  }
  return assert.fail('no frame was ever made');
}

/** A client that asks for a frame. */
function ask(url: string): ClientRequest {
  const asked = request(`${url}/frames`, { method: 'POST', agent: false }).end();
  asked.on('error', () => {}); // The tests break connections, too.
  return asked;
}

/**
 * A client that has got the beginning of a frame and reads no further. The rest is more than the kernel keeps for a
 * connection, so the service still has it.
 */
async function holdFrame(url: string): Promise<IncomingMessage> {
  const [response] = (await once(ask(url), 'response')) as [IncomingMessage];
  assert.equal(response.statusCode, 200);
  return response;
}

/** Scrapes until a metric of the service has this value. */
async function scrapeUntil(url: string, name: string, value: number, labels = {}): Promise<void> {
  for (let scrape = 0; scrape < 500; scrape++) {
    if (sampled(await get(`${url}/metrics`), name, labels) === value) return;
  }
  assert.fail(`${name} ${JSON.stringify(labels)} was never ${value}`);
}

exampleTest('service: frames come whole, one buffer serves them all, and the metrics say so', async () => {
  const [service, url] = await serve('--buffers', '2');
  await using _service = service;
  for (let frame = 0; frame < 2; frame++) assert.equal(await takeFrame(url), frame);
  await scrapeUntil(url, 'frames_pool_buffers', 0, { state: 'in_use' });
  const samples = await get(`${url}/metrics`);
  assert.equal(sampled(samples, 'frames_total'), 2);
  assert.equal(sampled(samples, 'frames_pool_buffers', { state: 'idle' }), 1);
  assert.equal(sampled(samples, 'frames_waiting'), 0);
  assert.equal(sampled(samples, 'dmabuf_process_rss_bytes', { pid: String(service.pid) }), frameSize);
  assert.equal(sampled(samples, 'dmabuf_total_bytes'), frameSize);
  await endWell(service, url);
});

exampleTest('service: clients at the same time get frames of their own', async () => {
  const [service, url] = await serve('--buffers', '2', '--wait', '60000');
  await using _service = service;
  const frames = await Promise.all(Array.from({ length: 4 }, () => takeFrame(url)));
  assert.deepEqual(frames.sort(), [0, 1, 2, 3]);
  await endWell(service, url);
});

exampleTest('service: when all buffers are out it says when to come again, and then serves', async () => {
  const [service, url] = await serve('--buffers', '1', '--wait', '100');
  await using _service = service;
  const next = await warmUp(url);
  const held = await holdFrame(url);
  const refused = await fetch(`${url}/frames`, { method: 'POST' });
  assert.equal(refused.status, 503);
  assert.equal(refused.headers.get('retry-after'), '1');
  assert.deepEqual(await refused.json(), { error: 'all buffers are in use' });
  assertFrame(await readAll(held), next);
  await scrapeUntil(url, 'frames_pool_buffers', 0, { state: 'in_use' });
  assert.equal(await takeFrame(url), next + 1);
  await endWell(service, url);
});

exampleTest('service: a client that goes away in the middle of an answer gives its buffer back', async () => {
  const [service, url] = await serve('--buffers', '1', '--wait', '60000', '--stall', '60000');
  await using _service = service;
  for (let round = 0; round < 2; round++) {
    const held = await holdFrame(url);
    await scrapeUntil(url, 'frames_pool_buffers', 1, { state: 'in_use' });
    held.destroy();
    assert.equal(await takeFrame(url), 2 * round + 1);
  }
  await endWell(service, url);
});

exampleTest('service: a client that goes away while it waits for a buffer is given none', async () => {
  const [service, url] = await serve('--buffers', '1', '--wait', '60000', '--stall', '60000');
  await using _service = service;
  const held = await holdFrame(url);
  const waiting = ask(url);
  await scrapeUntil(url, 'frames_waiting', 1);
  waiting.destroy();
  await scrapeUntil(url, 'frames_waiting', 0);
  assertFrame(await readAll(held), 0);
  assert.equal(await takeFrame(url), 1); // And not 2: nothing was made for the one that is gone.
  await endWell(service, url);
});

exampleTest('service: a client that stops reading is cut off, and its buffer serves the next', async () => {
  const [service, url] = await serve('--buffers', '1', '--wait', '100', '--stall', '5000');
  await using _service = service;
  await warmUp(url);
  const held = await holdFrame(url);
  let response = await fetch(`${url}/frames`, { method: 'POST' });
  assert.equal(response.status, 503);
  // Each of these takes as long as the service lets it wait for a buffer.
  for (let tries = 0; response.status === 503 && tries < 200; tries++) {
    await response.arrayBuffer();
    response = await fetch(`${url}/frames`, { method: 'POST' });
  }
  assert.equal(response.status, 200);
  assertFrame(Buffer.from(await response.arrayBuffer()), response.headers.get('x-frame'));
  await assert.rejects(readAll(held));
  await endWell(service, url);
});

/** Whether nobody listens there. */
function refuses(url: string): Promise<boolean> {
  const { port, hostname } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname);
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', () => resolve(true));
  });
}

exampleTest('service: asked to end, it sends what it has begun to send', async () => {
  const [service, url] = await serve('--buffers', '2');
  await using _service = service;
  await takeFrame(url); // Leaves an idle buffer, besides the one on loan.
  const held = await holdFrame(url);
  const end = service.end('SIGTERM');
  for (let tries = 0; !(await refuses(url)); tries++) assert.ok(tries < 5000, 'it still listens');
  assertFrame(await readAll(held), 1);
  assert.equal(await end, 0);
  assert.deepEqual(service.said, [`serving ${url}`]);
});
