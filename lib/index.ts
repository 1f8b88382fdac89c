// TypeScript 6 and later load the types of Node.js only when they are referenced, and the declarations need them.
/// <reference types="node" preserve="true" />

/**
 * Allocates, maps, synchronises, waits for, names and shares Linux dma-bufs.
 *
 * Importing works on every system, and loads nothing. On a system other than Linux, or where the addon cannot be
 * loaded, every call that needs the kernel throws `ERR_DMABUF_UNSUPPORTED_PLATFORM`.
 *
 * The following applies everywhere and is not repeated below. Sizes, offsets and positions are in bytes, durations in
 * milliseconds. A bad argument throws a TypeError `ERR_INVALID_ARG_TYPE` or a RangeError `ERR_OUT_OF_RANGE` before
 * anything reaches the kernel; every other failure is a {@link DmaBufError}. A function that returns a promise rejects
 * instead. A function that makes a descriptor throws `EMFILE` when the process has none left.
 *
 * @module dmabuf
 */

export type { AccessTrace } from './buffer/access-tracing.js';
export type { TextOptions } from './buffer/copies.js';
export { CpuAccess } from './buffer/cpu-access.js';
export { DmaBuf } from './buffer/dma-buf.js';
export type { DmaBufInfo } from './buffer/fdinfo.js';
export type { MemfdRange } from './buffer/from-memfd.js';
export { importFrom } from './buffer/import.js';
export { DmaBufMapping, type MapOptions } from './buffer/mapping.js';
export { Memfd, type MemfdOptions } from './buffer/memfd.js';
export type { BufferStreamOptions } from './buffer/streams.js';
export { DmaBufChannel, DmaBufServer } from './channel/channel.js';
export type { ConnectOptions } from './channel/connecting.js';
export { FdStream, FdStreamServer } from './channel/fd-stream.js';
export type { ServerOptions } from './channel/listening.js';
export { type ChannelMessage, closeHandles, type Sendable } from './channel/message.js';
export type { ChannelOptions } from './channel/message-socket.js';
export type { PeerCredentials } from './channel/peer.js';
export type { SendTrace } from './channel/send-trace.js';
export type { FdStreamOptions } from './channel/stream-options.js';
export type { Access } from './check.js';
export { type AllocationAttempt, DmaBufError, type DmaBufErrorDetails } from './errors.js';
export { SyncFile } from './fence/sync-file.js';
export type { FenceInfo, FenceStatus, SyncFileInfo } from './fence/sync-file-info.js';
export type { FramePolicy, FrameStatistics } from './frame/frame-consumer.js';
export { FrameReceiver } from './frame/frame-receiver.js';
export {
  type FrameConnection,
  FrameSender,
  type FrameSenderOptions,
  type SendFrameOptions,
  type SentFrame,
} from './frame/frame-sender.js';
export type { FrameLayout, FramePlane, PlaneLayout } from './frame/planes.js';
export { ReceivedFrame } from './frame/received-frame.js';
export { type HandleType, type OpenHandle, openHandles, setHandleTracking } from './handle.js';
export { type AllocateOptions, allocate, allocateSync, type Source } from './memory/allocate.js';
export type { AllocateTrace } from './memory/allocation.js';
export { DmaHeap } from './memory/dma-heap.js';
export type { HeapInfo, HeapKind } from './memory/heap-list.js';
export { createMemfd } from './memory/memfd.js';
export { DmaBufPool, type PoolStatistics } from './memory/pool.js';
export type { PoolOptions } from './memory/pool-options.js';
export { PooledBuffer } from './memory/pooled-buffer.js';
export type { BufferOptions } from './memory/request.js';
export type { WaitTrace } from './tracing.js';
export type { WaitOptions } from './wait.js';
