import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import {
  allocateSync,
  closeHandles,
  createMemfd,
  DmaBuf,
  DmaBufChannel,
  DmaBufPool,
  DmaHeap,
  FdStream,
  importFrom,
  Memfd,
  openHandles,
} from 'dmabuf';
import { abstractName } from '../../../support/abstract-name.js';
import { channelTest } from '../../../support/channel-test.js';
import { fill, Pair } from '../../../support/channels.js';
import { replaceByStranger, reuse } from '../../../support/descriptors.js';
import { collectUntil, turns } from '../../../support/event-loop.js';
import { next } from '../../../support/messages.js';
import { makeSyncFile, only } from '../../../support/own-handles.js';
import { StreamPair } from '../../../support/streams.js';

// ---- what is listed

channelTest('nothing is listed when nothing is open', () => assert.deepEqual(openHandles(), []));

channelTest('a DmaBuf is listed with descriptor, inode, size, exporter and mappings', () => {
  using buffer = allocateSync(8192);
  assert.deepEqual(only(), {
    type: 'DmaBuf',
    fd: buffer.fd,
    inode: buffer.inode,
    size: 8192,
    exporter: 'system',
    mappings: 0,
  });
});

channelTest('a DmaBuf that nobody has looked at yet is listed all the same, and stays usable', () => {
  using buffer = allocateSync(8192);
  const { fd, inode, size } = only();
  assert.deepEqual([fd, inode, size], [buffer.fd, buffer.inode, buffer.size]);
  buffer.write(Buffer.from('x'));
});

channelTest('a name is listed, as it is now', () => {
  using buffer = allocateSync(4096, { name: 'frame 1' });
  assert.equal(only().name, 'frame 1');
  buffer.setName('frame 2');
  assert.equal(only().name, 'frame 2');
});

channelTest('mappings are counted, that of CPU access among them', () => {
  using buffer = allocateSync(8192);
  const first = buffer.map();
  const second = buffer.map({ offset: 4096 });
  assert.equal(only().mappings, 2);
  buffer.withCpuAccessSync('read', () => {});
  assert.equal(only().mappings, 3);
  first.unmap();
  second.unmap();
  assert.equal(only().mappings, 1);
});

channelTest("a udmabuf's exporter is told", () => {
  const memfd = createMemfd(4096);
  using _buffer = DmaBuf.fromMemfd(memfd);
  closeSync(memfd);
  assert.deepEqual([only().exporter, only().size], ['udmabuf', 4096]);
});

channelTest('heaps, sync_files, channels, streams and servers are listed with type and descriptor', () => {
  using buffer = allocateSync(4096);
  using heap = DmaHeap.open('system');
  using file = buffer.exportSyncFile('read');
  using pair = new Pair();
  using server = DmaBufChannel.listen(abstractName());
  using streams = new StreamPair();
  using streamServer = FdStream.listen(abstractName());
  const others = openHandles().filter(({ type }) => type !== 'DmaBuf');
  const byFd = (one: { fd: number }, other: { fd: number }): number => one.fd - other.fd;
  assert.deepEqual(
    others.sort(byFd),
    [
      { type: 'DmaHeap', fd: heap.fd },
      { type: 'SyncFile', fd: file.fd },
      { type: 'DmaBufChannel', fd: pair.here.fd },
      { type: 'DmaBufChannel', fd: pair.there.fd },
      { type: 'DmaBufServer', fd: server.fd },
      { type: 'FdStream', fd: streams.here.fd },
      { type: 'FdStream', fd: streams.there.fd },
      { type: 'FdStreamServer', fd: streamServer.fd },
    ].sort(byFd),
  );
});

channelTest('what is closed, released or given away is not listed', async () => {
  const buffer = allocateSync(4096);
  const [one, other] = DmaBufChannel.pair();
  await one.send('x', [buffer]);
  buffer.close();
  closeSync(one.release());
  other[Symbol.dispose]();
  closeSync(allocateSync(4096).release());
  assert.deepEqual(openHandles(), []);
});

channelTest('copies, imports and adoptions are listed one by one', () => {
  using buffer = allocateSync(4096);
  using _copy = buffer.dup();
  using _imported = DmaBuf.import(buffer.fd);
  using _adopted = DmaBuf.adopt(buffer.dup().release());
  using _fromSelf = importFrom(process.pid, buffer.fd);
  const handles = openHandles();
  assert.equal(handles.length, 5);
  assert.deepEqual(new Set(handles.map(({ inode }) => inode)), new Set([buffer.inode]));
  assert.equal(new Set(handles.map(({ fd }) => fd)).size, 5);
});

channelTest('what arrived is listed, and what waits to be sent is not', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  using file = buffer.exportSyncFile('read');
  await pair.here.send('x', [buffer, file, 0]);
  const before = openHandles().length;
  const { handles } = await next(pair.there);
  assert.equal(openHandles().length, before + 2);
  closeHandles(handles);
  await fill(pair.here);
  const sending = pair.here.send('x', [buffer, file]).catch(() => {});
  assert.equal(openHandles().length, before);
  pair.here.close();
  await sending;
});

channelTest('the buffers of a pool are listed, idle ones too', async () => {
  using pool = new DmaBufPool(4096, { max: 2 });
  const loans = [await pool.acquire(), await pool.acquire()];
  assert.equal(openHandles().length, 2);
  for (const loan of loans) loan.release();
  assert.equal(openHandles().filter(({ type }) => type === 'DmaBuf').length, 2);
  pool.close();
  assert.deepEqual(openHandles(), []);
});

channelTest('500 handles are listed', () => {
  const buffers = Array.from({ length: 500 }, () => allocateSync(4096));
  const fds = openHandles().map(({ fd }) => fd);
  assert.deepEqual(new Set(fds), new Set(buffers.map(({ fd }) => fd)));
  for (const buffer of buffers) buffer.close();
});

channelTest("a worker lists its own handles, and not the main thread's", async () => {
  using _buffer = allocateSync(4096);
  const code = `
    import { parentPort } from 'node:worker_threads';
    import { allocateSync, openHandles } from 'dmabuf';
    const before = openHandles().length;
    const buffer = allocateSync(4096);
    parentPort.postMessage([before, openHandles().length]);
    buffer.close();`;
  const url = new URL(
    `data:text/javascript,${encodeURIComponent(code.replace("'dmabuf'", JSON.stringify(import.meta.resolve('dmabuf'))))}`,
  );
  const worker = new Worker(url);
  const counts = await new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  await new Promise((resolve) => worker.once('exit', resolve));
  assert.deepEqual(counts, [0, 1]);
  assert.equal(openHandles().length, 1);
});

channelTest('the list is a copy: changing it changes nothing', () => {
  using _buffer = allocateSync(4096);
  openHandles().length = 0;
  only().fd = 4711;
  assert.notEqual(only().fd, 4711);
});

const hostile: readonly string[] = [
  '\x1b[2J\x1b]0;owned\x07',
  'a\nname:\tb\nexp_name:\tc',
  '"}],"',
  '‮txt.exe',
  '__proto__',
  '%s%n%d',
  'é'.repeat(15),
];

for (const name of hostile) {
  channelTest(`a buffer may be called ${JSON.stringify(name)}`, () => {
    using buffer = allocateSync(4096, { name });
    const { exporter, inode, name: listed } = only();
    assert.deepEqual([exporter, inode, listed], ['system', buffer.inode, name]);
  });
}

channelTest('a warning about a hostile name keeps to one line', async () => {
  const warnings: string[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning.message);
  process.on('warning', onWarning);
  (() => {
    allocateSync(4096, { name: '\x1b[2J\nforged line' });
  })();
  await collectUntil(() => openHandles().length === 0);
  await turns();
  process.off('warning', onWarning);
  const [warning = ''] = warnings;
  assert.match(warning, /A DmaBuf of 4096 bytes \(inode \d+, system, "\\u001b\[2J\\nforged line"\)/);
  assert.ok(!warning.includes('\x1b') && !warning.includes('\n'));
});

// ---- descriptors that were closed behind their owners

const makers: readonly [string, () => { readonly fd: number; close(): void }][] = [
  ['DmaBuf', () => allocateSync(4096)],
  ['DmaHeap', () => DmaHeap.open('system')],
  ['SyncFile', makeSyncFile],
  ['Memfd', () => Memfd.create(4096)],
  ['DmaBufServer', () => DmaBufChannel.listen(abstractName())],
  ['FdStreamServer', () => FdStream.listen(abstractName())],
];

for (const [type, make] of makers) {
  channelTest(`a ${type} whose descriptor was closed behind it is listed without an error`, () => {
    const object = make();
    const { fd } = object;
    closeSync(fd);
    const handle = only();
    assert.equal(handle.type, type);
    assert.ok([fd, -1].includes(handle.fd));
    object.close();
  });

  channelTest(`a ${type} whose number is another file's is listed without an error`, () => {
    const object = make();
    const { fd } = object;
    replaceByStranger(fd);
    assert.equal(only().type, type);
    object.close();
    closeSync(fd);
  });
}

channelTest("a DmaBuf whose number is another buffer's is not described as that one", () => {
  using buffer = allocateSync(4096, { name: 'mine' });
  const { fd, inode } = buffer;
  reuse(fd, () => allocateSync(8192, { name: 'a stranger' }).release());
  const handle = only();
  assert.notEqual(handle.name, 'a stranger');
  assert.ok(handle.inode === undefined || handle.inode === inode);
  assert.ok(handle.size === undefined || handle.size === 4096);
  buffer.close();
  closeSync(fd);
});

channelTest('one handle that cannot be described does not hide the others', () => {
  using first = allocateSync(4096);
  using broken = allocateSync(4096);
  using last = allocateSync(4096);
  closeSync(broken.fd);
  const fds = openHandles().map(({ fd }) => fd);
  assert.equal(fds.length, 3);
  assert.ok(fds.includes(first.fd) && fds.includes(last.fd));
});

channelTest('listing does not make a handle leak or close', () => {
  const buffer = allocateSync(4096);
  for (let round = 0; round < 100; round++) openHandles();
  buffer.read(new Uint8Array(1));
  buffer.close();
  assert.deepEqual(openHandles(), []);
});
