// What the package and its peers in JavaScript do, by name; bench.c does the same in C.

import {
  allocate,
  allocateSync,
  type ChannelMessage,
  closeHandles,
  DmaBuf,
  DmaBufChannel,
  DmaBufPool,
  DmaHeap,
} from 'dmabuf';
import { type SnapshotSource, snapshot } from 'dmabuf/inspect';
import { frame, pipeFrame, postFrame, socketFrame } from './frames.js';
import type { Work } from './rows.js';

const tiny = 64;
const small = 4096;
const range = 64 << 10;
const large = 1 << 20;

const openHeap = (): DmaHeap => DmaHeap.open('system');
const makeBuffer = (): DmaBuf => openHeap().allocateSync(large, { name: 'bench' });

/** A work on a buffer of a mebibyte. */
function onBuffer(run: (buffer: DmaBuf) => unknown): () => Work {
  return () => {
    const buffer = makeBuffer();
    return { run: () => run(buffer) };
  };
}

/** A work on a buffer and so many bytes of ordinary memory. */
function withBytes(length: number, run: (buffer: DmaBuf, bytes: Uint8Array) => unknown): () => Work {
  return () => {
    const buffer = makeBuffer();
    const bytes = new Uint8Array(length).fill(1);
    return { run: () => run(buffer, bytes) };
  };
}

function allocating(size: number): () => Work {
  return () => {
    const heap = openHeap();
    return { run: () => heap.allocateSync(size).close() };
  };
}

/** A message from one end of a channel to the other, whose receiver asks before or after it was sent. */
function passing(length: number, handles: number, isWaiting = false): () => Work {
  return () => {
    const [here, there] = DmaBufChannel.pair();
    const data = new Uint8Array(length).fill(1);
    const buffer = makeBuffer();
    const buffers = Array.from({ length: handles }, () => buffer);
    const run = isWaiting
      ? async () => {
          const received = there.receive();
          await here.send(data, buffers);
          closeHandles(((await received) as ChannelMessage).handles);
        }
      : async () => {
          await here.send(data, buffers);
          closeHandles(((await there.receive()) as ChannelMessage).handles);
        };
    return { run };
  };
}

function summing(bytes: Uint8Array): Work {
  const sum = (): number => {
    let total = 0;
    for (let index = 0; index < bytes.length; index++) total += bytes[index] as number;
    return total;
  };
  return { run: () => void sum() };
}

/** A look at the crowd that guest.ts has started; inspect.c has to see the same. */
function looking(source: SnapshotSource): () => Work {
  return () => ({
    run: async () => {
      const { total, processes } = await snapshot({ source });
      const held = processes.reduce((sum, process) => sum + process.buffers, 0);
      if (total.buffers !== 5_000 || held !== 5_000) {
        throw new Error(`${source}: saw ${total.buffers} buffers held ${held} times`);
      }
    },
  });
}

/** The same ioctls as cpuAccessSync() and end(), by a library that calls C functions from JavaScript. */
async function koffiSync(): Promise<Work> {
  const { default: koffi } = await import('koffi');
  const ioctl = koffi.load('libc.so.6').func('int ioctl(int fd, unsigned long request, void* argument)');
  const { fd } = makeBuffer();
  const request = 0x40086200; // DMA_BUF_IOCTL_SYNC
  const [start, end] = [3n, 7n].map((flags) => new BigUint64Array([flags]));
  return {
    run: () => {
      if (ioctl(fd, request, start) !== 0 || ioctl(fd, request, end) !== 0) throw new Error('ioctl failed');
    },
  };
}

export const works: Readonly<Record<string, () => Work | Promise<Work>>> = {
  sync: onBuffer((buffer) => buffer.cpuAccessSync('read-write').end()),
  withSync: onBuffer((buffer) => buffer.withCpuAccessSync('read-write', () => {})),
  access: onBuffer(async (buffer) => (await buffer.cpuAccess('read-write')).end()),
  isReady: onBuffer((buffer) => void buffer.isReady('write')),
  ready: onBuffer((buffer) => buffer.ready('write')),
  info: onBuffer((buffer) => void buffer.info()),
  syncFileInfo: () => {
    const fences = makeBuffer().exportSyncFile('read-write');
    return { run: () => void fences.info() };
  },
  import: () => {
    const { fd } = makeBuffer();
    return { run: () => DmaBuf.import(fd).close() };
  },
  dup: onBuffer((buffer) => buffer.dup().close()),
  adopt: () => {
    const fd = makeBuffer().release();
    return { run: () => void DmaBuf.adopt(fd).release() };
  },
  allocate4k: allocating(small),
  allocate1m: allocating(large),
  allocateDefault: () => ({ run: () => allocateSync(small).close() }),
  allocateAsync: () => ({ run: async () => (await allocate(small)).close() }),
  allocateAbsent: () => ({ run: () => allocateSync(small, { from: ['cma', 'system'] }).close() }),
  pool: () => {
    const pool = new DmaBufPool(large, { from: openHeap() });
    return { run: async () => (await pool.acquire()).release() };
  },
  map64k: onBuffer((buffer) => buffer.map({ length: range }).unmap()),
  map1m: onBuffer((buffer) => buffer.map().unmap()),
  read64: withBytes(tiny, (buffer, bytes) => void buffer.read(bytes)),
  read4k: withBytes(small, (buffer, bytes) => void buffer.read(bytes)),
  read1m: withBytes(large, (buffer, bytes) => void buffer.read(bytes)),
  write4k: withBytes(small, (buffer, bytes) => void buffer.write(bytes)),
  write1m: withBytes(large, (buffer, bytes) => void buffer.write(bytes)),
  sumMapped: () => summing(makeBuffer().map().bytes),
  sumOrdinary: () => summing(new Uint8Array(large).fill(1)),
  message: passing(16, 1),
  message16: passing(16, 16),
  message253: passing(16, 253),
  data64k: passing(range, 0),
  waiting: passing(16, 1, true),
  frame,
  pipeFrame,
  socketFrame,
  postFrame,
  koffiSync,
  procfs: looking('procfs'),
  bpf: looking('bpf'),
};
