import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import * as dmabuf from 'dmabuf';
import {
  allocate,
  type CpuAccess,
  closeHandles,
  createMemfd,
  DmaBuf,
  DmaBufChannel,
  type DmaBufMapping,
  DmaBufPool,
  type DmaBufServer,
  DmaHeap,
  FdStream,
  FdStreamServer,
  importFrom,
  Memfd,
  openHandles,
  type PooledBuffer,
  SyncFile,
  setHandleTracking,
} from 'dmabuf';
import { ticks, turns } from '../../support/event-loop.js';
import { addFence, type Fence, fenceTest } from '../../support/fences.js';
import { ForeignSocket } from '../../support/sockets.js';

// No method of the public API whose name does not end in Sync sleeps until a device is done. The list of methods
// is the package's own: one that is not known here fails.

/** Objects that a device writes, as far as they concern buffers at all. */
interface World {
  buffer: DmaBuf;
  mapping: DmaBufMapping;
  access: CpuAccess;
  file: SyncFile;
  heap: DmaHeap;
  pool: DmaBufPool;
  loan: PooledBuffer;
  memfd: Memfd;
  /** Two ends; a message with the buffer and its fences is on its way from the second to the first. */
  channel: DmaBufChannel;
  peer: DmaBufChannel;
  /** Somebody waits to be accepted. */
  server: DmaBufServer;
  /** The same for streams. */
  stream: FdStream;
  streamPeer: FdStream;
  streamServer: FdStreamServer;
}

interface Made {
  world: World;
  fences: Fence[];
  close(): void;
}

async function makeWorld(): Promise<Made> {
  const heap = DmaHeap.open('system');
  const buffer = heap.allocateSync(4096);
  const mapping = buffer.map();
  const access = buffer.cpuAccessSync('read-write');
  const pool = new DmaBufPool(4096, { max: 3, zero: true });
  const loan = await pool.acquire();
  const given = await pool.acquire();
  const memfd = Memfd.create(4096);
  const fences = [buffer, loan.buffer, given.buffer].map((busy) => addFence(busy, 'write'));
  given.release(); // the pool's only idle buffer is busy
  const file = buffer.exportSyncFile('write');
  const [channel, peer] = DmaBufChannel.pair();
  await peer.send('busy', [buffer, file]);
  const server = DmaBufChannel.listen(`@dmabuf-test-busy-${process.pid}`);
  const client = await DmaBufChannel.connect(server.path);
  const [stream, streamPeer] = FdStream.pair();
  await streamPeer.send('busy', [buffer, file]);
  const streamServer = FdStream.listen(`@dmabuf-test-busy-stream-${process.pid}`);
  const streamClient = await FdStream.connect(streamServer.address);
  const streams = { stream, streamPeer, streamServer };
  return {
    world: { buffer, mapping, access, file, heap, pool, loan, memfd, channel, peer, server, ...streams },
    fences,
    close() {
      for (const object of [file, buffer, heap, pool, memfd, channel, peer, server, client]) object.close();
      for (const object of [stream, streamPeer, streamServer, streamClient]) object.close();
      loan.release();
    },
  };
}

function closing<T extends { close(): void }>(object: T): void {
  object.close();
}

async function receiveBusy(channel: DmaBufChannel): Promise<void> {
  const { handles = [] } = (await channel.receive()) ?? {};
  assert.equal(handles.length, 2);
  closeHandles(handles);
}

/** Waits until what was sent to a stream has arrived. */
async function readBusy(stream: FdStream): Promise<void> {
  await once(stream, 'readable');
  assert.equal(String(stream.read()), 'busy');
  closeHandles([stream.takeHandle() as DmaBuf, stream.takeHandle() as SyncFile]);
}

const throwsEagain = (fn: () => unknown): void => assert.throws(fn, { code: 'EAGAIN' });

/** How to call each; what a promise waits for comes when the fences have signalled. */
const calls: Record<string, (world: World) => unknown> = {
  allocate: async () => closing(await allocate(4096)),
  createMemfd: () => closeSync(createMemfd(4096)),
  closeHandles: ({ buffer, file }) => closeHandles([buffer.dup(), file.dup(), buffer.dup().release()]),
  importFrom: ({ buffer }) => closing(importFrom(process.pid, buffer.fd)),
  openHandles: () => assert.notEqual(openHandles().length, 0),
  setHandleTracking: () => setHandleTracking(false),

  'DmaHeap.list': () => DmaHeap.list(),
  'DmaHeap.open': () => closing(DmaHeap.open('system')),
  'DmaHeap.prototype.name': ({ heap }) => heap.name,
  'DmaHeap.prototype.path': ({ heap }) => heap.path,
  'DmaHeap.prototype.fd': ({ heap }) => heap.fd,
  'DmaHeap.prototype.closed': ({ heap }) => heap.closed,
  'DmaHeap.prototype.allocate': async ({ heap }) => closing(await heap.allocate(4096)),
  'DmaHeap.prototype.close': ({ heap }) => heap.close(),
  'DmaHeap.prototype.toJSON': ({ heap }) => heap.toJSON(),
  'DmaHeap.prototype[Symbol.dispose]': ({ heap }) => heap[Symbol.dispose](),

  'DmaBuf.import': ({ buffer }) => closing(DmaBuf.import(buffer.fd)),
  'DmaBuf.adopt': ({ buffer }) => closing(DmaBuf.adopt(buffer.dup().release())),
  'DmaBuf.isDmaBuf': ({ buffer }) => DmaBuf.isDmaBuf(buffer.fd),
  'DmaBuf.importFrom': ({ buffer }) => closing(DmaBuf.importFrom(process.pid, buffer.fd)),
  'DmaBuf.fromMemfd': ({ memfd }) => closing(DmaBuf.fromMemfd(memfd)),
  'DmaBuf.pageSize': () => DmaBuf.pageSize,
  'DmaBuf.prototype.fd': ({ buffer }) => buffer.fd,
  'DmaBuf.prototype.size': ({ buffer }) => buffer.size,
  'DmaBuf.prototype.inode': ({ buffer }) => buffer.inode,
  'DmaBuf.prototype.lost': ({ buffer }) => buffer.lost,
  'DmaBuf.prototype.attempts': ({ buffer }) => buffer.attempts,
  'DmaBuf.prototype.closed': ({ buffer }) => buffer.closed,
  'DmaBuf.prototype.source': ({ buffer }) => buffer.source,
  'DmaBuf.prototype.info': ({ buffer }) => buffer.info(),
  'DmaBuf.prototype.setName': ({ buffer }) => buffer.setName('busy'),
  'DmaBuf.prototype.map': ({ buffer }) => buffer.map().unmap(),
  'DmaBuf.prototype.cpuAccess': async ({ buffer }) => (await buffer.cpuAccess('read-write')).end(),
  'DmaBuf.prototype.withCpuAccess': ({ buffer }) => buffer.withCpuAccess('read-write', () => {}),
  'DmaBuf.prototype.isReady': ({ buffer }) => assert.equal(buffer.isReady('read'), false),
  'DmaBuf.prototype.ready': ({ buffer }) => buffer.ready('read-write'),
  'DmaBuf.prototype.exportSyncFile': ({ buffer }) => closing(buffer.exportSyncFile('write')),
  'DmaBuf.prototype.importSyncFile': ({ buffer, file }) => buffer.importSyncFile(file, 'read'),
  'DmaBuf.prototype.read': ({ buffer }) => throwsEagain(() => buffer.read(new Uint8Array(4096))),
  'DmaBuf.prototype.text': ({ buffer }) => throwsEagain(() => buffer.text()),
  'DmaBuf.prototype.write': ({ buffer }) => throwsEagain(() => buffer.write(new Uint8Array(4096))),
  'DmaBuf.prototype.dup': ({ buffer }) => closing(buffer.dup()),
  'DmaBuf.prototype.release': ({ buffer }) => closeSync(buffer.release()),
  'DmaBuf.prototype.close': ({ buffer }) => buffer.close(),
  'DmaBuf.prototype.toJSON': ({ buffer }) => buffer.toJSON(),
  'DmaBuf.prototype[Symbol.dispose]': ({ buffer }) => buffer[Symbol.dispose](),

  'Memfd.create': () => closing(Memfd.create(4096)),
  'Memfd.prototype.fd': ({ memfd }) => memfd.fd,
  'Memfd.prototype.size': ({ memfd }) => memfd.size,
  'Memfd.prototype.closed': ({ memfd }) => memfd.closed,
  'Memfd.prototype.release': ({ memfd }) => closeSync(memfd.release()),
  'Memfd.prototype.close': ({ memfd }) => memfd.close(),
  'Memfd.prototype.toJSON': ({ memfd }) => memfd.toJSON(),
  'Memfd.prototype[Symbol.dispose]': ({ memfd }) => memfd[Symbol.dispose](),

  'DmaBufMapping.prototype.buffer': ({ mapping }) => mapping.buffer,
  'DmaBufMapping.prototype.bytes': ({ mapping }) => mapping.bytes,
  'DmaBufMapping.prototype.lost': ({ mapping }) => mapping.lost,
  'DmaBufMapping.prototype.closed': ({ mapping }) => mapping.closed,
  'DmaBufMapping.prototype.unmap': ({ mapping }) => mapping.unmap(),
  'DmaBufMapping.prototype.toJSON': ({ mapping }) => mapping.toJSON(),
  'DmaBufMapping.prototype[Symbol.dispose]': ({ mapping }) => mapping[Symbol.dispose](),

  'CpuAccess.prototype.end': ({ access }) => access.end(),
  'CpuAccess.prototype.toJSON': ({ access }) => access.toJSON(),
  'CpuAccess.prototype[Symbol.dispose]': ({ access }) => access[Symbol.dispose](),

  'SyncFile.import': ({ file }) => closing(SyncFile.import(file.fd)),
  'SyncFile.adopt': ({ file }) => closing(SyncFile.adopt(file.dup().release())),
  'SyncFile.merge': ({ file }) => closing(SyncFile.merge('busy', file, file, file)),
  'SyncFile.mergeAsync': async ({ file }) => closing(await SyncFile.mergeAsync('busy', [file, file, file])),
  'SyncFile.prototype.fd': ({ file }) => file.fd,
  'SyncFile.prototype.closed': ({ file }) => file.closed,
  'SyncFile.prototype.status': ({ file }) => assert.equal(file.status, 'active'),
  'SyncFile.prototype.info': ({ file }) => file.info(),
  'SyncFile.prototype.wait': ({ file }) => file.wait(),
  'SyncFile.prototype.setDeadline': ({ file }) => file.setDeadline(1n),
  'SyncFile.prototype.dup': ({ file }) => closing(file.dup()),
  'SyncFile.prototype.release': ({ file }) => closeSync(file.release()),
  'SyncFile.prototype.close': ({ file }) => file.close(),
  'SyncFile.prototype.toJSON': ({ file }) => file.toJSON(),
  'SyncFile.prototype[Symbol.dispose]': ({ file }) => file[Symbol.dispose](),

  'DmaBufChannel.pair': () => closeHandles(DmaBufChannel.pair().map((end) => end.release())),
  'DmaBufChannel.adopt': ({ channel }) => closing(DmaBufChannel.adopt(channel.release())),
  'DmaBufChannel.connect': async ({ server }) => closing(await DmaBufChannel.connect(server.path)),
  'DmaBufChannel.listen': () => closing(DmaBufChannel.listen(`@dmabuf-test-other-${process.pid}`)),
  'DmaBufChannel.prototype.fd': ({ channel }) => channel.fd,
  'DmaBufChannel.prototype.closed': ({ channel }) => channel.closed,
  'DmaBufChannel.prototype.peer': ({ channel }) => channel.peer,
  'DmaBufChannel.prototype.maxMessageSize': ({ channel }) => channel.maxMessageSize,
  'DmaBufChannel.prototype.send': ({ channel, buffer, file }) => channel.send('x', [buffer, file]),
  'DmaBufChannel.prototype.receive': ({ channel }) => receiveBusy(channel),
  'DmaBufChannel.prototype[Symbol.asyncIterator]': async ({ channel }) => {
    for await (const { handles } of channel) {
      closeHandles(handles);
      break;
    }
  },
  'DmaBufChannel.prototype.release': ({ channel }) => closeSync(channel.release()),
  'DmaBufChannel.prototype.close': ({ channel }) => channel.close(),
  'DmaBufChannel.prototype.toJSON': ({ channel }) => channel.toJSON(),
  'DmaBufChannel.prototype[Symbol.dispose]': ({ channel }) => channel[Symbol.dispose](),

  'DmaBufServer.prototype.fd': ({ server }) => server.fd,
  'DmaBufServer.prototype.closed': ({ server }) => server.closed,
  'DmaBufServer.prototype.accept': async ({ server }) => closing(await server.accept()),
  'DmaBufServer.prototype[Symbol.asyncIterator]': async ({ server }) => {
    for await (const channel of server) {
      channel.close();
      break;
    }
  },
  'DmaBufServer.prototype.close': ({ server }) => server.close(),
  'DmaBufServer.prototype.toJSON': ({ server }) => server.toJSON(),
  'DmaBufServer.prototype[Symbol.dispose]': ({ server }) => server[Symbol.dispose](),

  'FdStream.pair': () => closeHandles(FdStream.pair().map((end) => end.release())),
  'FdStream.adopt': ({ stream }) => closing(FdStream.adopt(stream.release())),
  'FdStream.connect': async ({ streamServer }) => closing(await FdStream.connect(streamServer.address)),
  'FdStream.listen': () => closing(FdStream.listen(`@dmabuf-test-other-stream-${process.pid}`)),
  'FdStream.prototype.fd': ({ stream }) => stream.fd,
  'FdStream.prototype.peer': ({ stream }) => stream.peer,
  'FdStream.prototype.send': ({ stream, buffer, file }) => stream.send('x', [buffer, file]),
  'FdStream.prototype.receive': async ({ stream }) => {
    const { handles = [] } = (await stream.receive()) ?? {};
    assert.equal(handles.length, 2);
    closeHandles(handles);
  },
  'FdStream.prototype.read': ({ stream }) => readBusy(stream),
  'FdStream.prototype.takeHandle': ({ stream }) => readBusy(stream),
  'FdStream.prototype.release': ({ stream }) => closeSync(stream.release()),
  'FdStream.prototype.close': ({ stream }) => stream.close(),
  'FdStream.prototype.toJSON': ({ stream }) => stream.toJSON(),
  'FdStream.prototype[Symbol.dispose]': ({ stream }) => stream[Symbol.dispose](),
  'FdStream.prototype[Symbol.asyncDispose]': ({ stream }) => stream[Symbol.asyncDispose](),

  'FdStreamServer.adopt': () => {
    const listener = ForeignSocket.serve(`@dmabuf-test-adopted-${process.pid}`, 'stream');
    FdStreamServer.adopt(listener.release()).close();
  },
  'FdStreamServer.prototype.fd': ({ streamServer }) => streamServer.fd,
  'FdStreamServer.prototype.closed': ({ streamServer }) => streamServer.closed,
  'FdStreamServer.prototype.accept': async ({ streamServer }) => closing(await streamServer.accept()),
  'FdStreamServer.prototype[Symbol.asyncIterator]': async ({ streamServer }) => {
    for await (const stream of streamServer) {
      stream.close();
      break;
    }
  },
  'FdStreamServer.prototype.close': ({ streamServer }) => streamServer.close(),
  'FdStreamServer.prototype.toJSON': ({ streamServer }) => streamServer.toJSON(),
  'FdStreamServer.prototype[Symbol.dispose]': ({ streamServer }) => streamServer[Symbol.dispose](),

  'DmaBufPool.prototype.size': ({ pool }) => pool.size,
  'DmaBufPool.prototype.max': ({ pool }) => pool.max,
  'DmaBufPool.prototype.closed': ({ pool }) => pool.closed,
  'DmaBufPool.prototype.acquire': async ({ pool }) => {
    const loans = await Promise.all([pool.acquire(), pool.acquire()]); // a new one, and one that is busy
    for (const loan of loans) loan.release();
  },
  'DmaBufPool.prototype.trim': ({ pool }) => pool.trim(),
  'DmaBufPool.prototype.statistics': ({ pool }) => pool.statistics(),
  'DmaBufPool.prototype.close': ({ pool }) => pool.close(),
  'DmaBufPool.prototype.toJSON': ({ pool }) => pool.toJSON(),
  'DmaBufPool.prototype[Symbol.dispose]': ({ pool }) => pool[Symbol.dispose](),
  'PooledBuffer.prototype.buffer': ({ loan }) => loan.buffer,
  'PooledBuffer.prototype.released': ({ loan }) => loan.released,
  'PooledBuffer.prototype.release': ({ loan }) => loan.release(),
  'PooledBuffer.prototype.toJSON': ({ loan }) => loan.toJSON(),
  'PooledBuffer.prototype[Symbol.dispose]': ({ loan }) => loan[Symbol.dispose](),
};

const symbols = new Map<symbol, string>([
  [Symbol.dispose, 'Symbol.dispose'],
  [Symbol.asyncDispose, 'Symbol.asyncDispose'],
  [Symbol.asyncIterator, 'Symbol.asyncIterator'],
]);

/** The public functions, methods and accessors that must not sleep. */
function* publicNames(): Generator<string> {
  for (const [name, value] of Object.entries(dmabuf)) {
    if (typeof value !== 'function' || name === 'DmaBufError') continue;
    const prototype = value.prototype as object | undefined;
    if (prototype === undefined || !/^class\b/.test(Function.prototype.toString.call(value))) {
      if (!name.endsWith('Sync')) yield name;
      continue;
    }
    for (const [path, holder] of [
      [name, value],
      [`${name}.prototype`, prototype],
    ] as const) {
      for (const key of Reflect.ownKeys(holder)) {
        if (['constructor', 'length', 'name', 'prototype'].includes(String(key)) && holder === value)
          continue;
        if (key === 'constructor' || String(key).endsWith('Sync')) continue;
        yield typeof key === 'symbol' ? `${path}[${symbols.get(key)}]` : `${path}.${key}`;
      }
    }
  }
}

const names = [...publicNames()];

for (const name of names) {
  fenceTest(`${name} does not wait for a device on the event loop`, async () => {
    const call = calls[name];
    assert.ok(call, `no call of ${name} is written down here`);
    const { world, fences, close } = await makeWorld();
    const promise = call(world);
    if (promise instanceof Promise) await ticks(2);
    // Fails when anything slept on this thread: the kernel would have been first.
    for (const fence of fences) fence.signal();
    await promise;
    close();
    await turns();
  });
}

fenceTest('every method that is written down here exists', () => {
  assert.deepEqual(
    Object.keys(calls).filter((name) => !names.includes(name)),
    [],
  );
});
