// Every public function that takes options, by what its declaration calls it.

import {
  allocate,
  allocateSync,
  closeHandles,
  createMemfd,
  type DmaBuf,
  DmaBufChannel,
  DmaBufPool,
  DmaHeap,
  FdStream,
  FdStreamServer,
  FrameReceiver,
  FrameSender,
  Memfd,
  SyncFile,
} from 'dmabuf';
import { frameOf, layoutOf, toRgba } from 'dmabuf/frame';
import { pinSync, snapshot, watch } from 'dmabuf/inspect';
import { registerMetrics } from 'dmabuf/metrics';
import { runInVm, runOnKernels, testInVm } from 'dmabuf/vm';
import { abstractName } from './abstract-name.js';
import { unsound } from './expect.js';
import { ForeignSocket } from './sockets.js';

/** Calls the function with these options; what it gives or opens is let go of. */
export type CallWith = (options: never) => unknown;

/** Options with more of them. */
const extended = (options: object, more: object): object => Object.setPrototypeOf({ ...more }, options);

/** Options without effect, and how often each was read. */
export function countedOptions(): { options: never; reads: Map<string | symbol, number> } {
  const reads = new Map<string | symbol, number>();
  const options = new Proxy(
    {},
    {
      get: (_, name) => {
        reads.set(name, (reads.get(name) ?? 0) + 1);
        return name === 'timeout' ? 0 : undefined;
      },
    },
  );
  return { options: options as never, reads };
}

/** What needs no dma-buf. */
export const optionRows: Readonly<Record<string, CallWith>> = {
  allocate: async (options) => (await allocate(4096, options)).close(),
  allocateSync: (options) => allocateSync(4096, options).close(),
  createMemfd: (options) => closeHandles([createMemfd(4096, options)]),
  'Memfd.create': (options) => Memfd.create(4096, options).close(),
  'DmaBufPool.constructor': (options) => new DmaBufPool(4096, options).close(),
  'DmaBufPool.acquire': async (options) => {
    using pool = new DmaBufPool(4096);
    (await pool.acquire(options)).release();
  },
  'DmaBufChannel.pair': (options) => {
    for (const end of DmaBufChannel.pair(options)) end.close();
  },
  'DmaBufChannel.adopt': (options) => {
    const [one, other] = DmaBufChannel.pair();
    const fd = one.release();
    try {
      DmaBufChannel.adopt(fd, options).close();
    } catch (error) {
      // Still the caller's.
      DmaBufChannel.adopt(fd).close();
      throw error;
    } finally {
      other.close();
    }
  },
  'DmaBufChannel.connect': (options) => DmaBufChannel.connect(`@dmabuf-options-${process.pid}`, options),
  'DmaBufChannel.listen': (options) =>
    DmaBufChannel.listen(`@dmabuf-options-${process.pid}`, options).close(),
  'DmaBufChannel.send': async (options) => {
    const [one, other] = DmaBufChannel.pair();
    using _one = one;
    using _other = other;
    await one.send('x', [], options);
  },
  'DmaBufChannel.receive': async (options) => {
    const [one, other] = DmaBufChannel.pair();
    using _one = one;
    other.close();
    await one.receive(options);
  },
  'FrameSender.constructor': (options) => new FrameSender(undefined, options).close(),
  'FrameSender.add': (options) => {
    const [one, other] = DmaBufChannel.pair();
    using _one = one;
    using _other = other;
    using sender = new FrameSender();
    sender.add(one, options);
  },
  'FrameReceiver.receive': async (options) => {
    const [one, other] = DmaBufChannel.pair();
    using _one = one;
    other.close();
    await new FrameReceiver(one).receive(options);
  },
  'DmaBufServer.accept': async (options) => {
    using server = DmaBufChannel.listen(`@dmabuf-options-${process.pid}`);
    await server.accept(options);
  },
  'FdStream.pair': (options) => {
    for (const end of FdStream.pair(options)) end.destroy();
  },
  'FdStream.adopt': (options) => {
    const [one, other] = FdStream.pair();
    using _other = other;
    const fd = one.release();
    try {
      FdStream.adopt(fd, options).destroy();
    } catch (error) {
      // Still the caller's.
      FdStream.adopt(fd).destroy();
      throw error;
    }
  },
  'FdStream.connect': (options) => FdStream.connect(`@dmabuf-options-${process.pid}`, options),
  'FdStream.listen': (options) => FdStream.listen(`@dmabuf-options-${process.pid}`, options).close(),
  'FdStream.receive': async (options) => {
    const [one, other] = FdStream.pair();
    using _one = one;
    other.destroy();
    await one.receive(options);
  },
  'FdStreamServer.adopt': (options) => {
    const listener = ForeignSocket.serve(abstractName(), 'stream');
    try {
      FdStreamServer.adopt(listener.fd, options).close();
    } catch (error) {
      listener.close();
      throw error;
    }
  },
  'FdStreamServer.accept': async (options) => {
    using server = FdStream.listen(`@dmabuf-options-${process.pid}`);
    await server.accept(options);
  },
  layoutOf: (options) => layoutOf('NV12', 64, 64, options),
  snapshot,
  watch: (options) => watch(options).return(),
  pinSync: (options: object) => pinSync(unsound(extended(options, { folder: '/nowhere' }))),
  registerMetrics: (options) => registerMetrics(options).unregister(),
  runInVm: (options: object) =>
    runInVm(unsound(extended(options, { command: ['true'], kernel: '/nowhere' }))),
  testInVm: (options: object) =>
    testInVm(
      unsound({ test: () => {}, signal: new AbortController().signal }),
      unsound(extended(options, { files: [process.execPath], kernel: '/nowhere' })),
    ),
  runOnKernels: (options: object) =>
    runOnKernels(unsound(extended(options, { command: ['true'], kernels: ['/nowhere'] }))),
};

/** What needs a buffer; `file` is a sync_file. */
export const bufferOptionRows: Readonly<
  Record<string, (buffer: DmaBuf, options: never, file: SyncFile) => unknown>
> = {
  'DmaHeap.allocate': async (_buffer, options) => {
    using heap = DmaHeap.open('system');
    (await heap.allocate(4096, options)).close();
  },
  'DmaHeap.allocateSync': (_buffer, options) => {
    using heap = DmaHeap.open('system');
    heap.allocateSync(4096, options).close();
  },
  'DmaBuf.map': (buffer, options) => buffer.map(options).unmap(),
  'DmaBuf.createReadStream': (buffer, options) => void buffer.createReadStream(options).destroy(),
  'DmaBuf.createWriteStream': (buffer, options) => void buffer.createWriteStream(options).destroy(),
  'DmaBuf.text': (buffer, options) => buffer.text(options),
  'DmaBuf.cpuAccess': async (buffer, options) => (await buffer.cpuAccess('read', options)).end(),
  'DmaBuf.withCpuAccess': (buffer, options) => buffer.withCpuAccess('read', () => {}, options),
  'DmaBuf.ready': (buffer, options) => buffer.ready('read', options),
  frameOf: (buffer, options) => frameOf(buffer, 'GREY', 8, 8, options),
  'FrameSender.send': async (buffer, options) => {
    using sender = new FrameSender();
    await sender.send(frameOf(buffer, 'GREY', 8, 8), options);
  },
  toRgba: (buffer, options) => toRgba(frameOf(buffer, 'GREY', 8, 8), options),
  'SyncFile.mergeAsync': async (_buffer, options, file) =>
    (await SyncFile.mergeAsync('x', [file], options)).close(),
  'SyncFile.wait': (_buffer, options, file) => file.wait(options),
};
