export { type AllocateOptions, allocate, allocateSync, type Source } from './allocate.js';
export {
  type ChannelMessage,
  type ChannelOptions,
  closeHandles,
  DmaBufChannel,
  type PeerCredentials,
  type Sendable,
} from './channel.js';
export type { Access } from './check.js';
export { CpuAccess } from './cpu-access.js';
export { DmaBuf, importFrom, type MapOptions } from './dma-buf.js';
export { type BufferOptions, DmaHeap, type HeapInfo, type HeapKind } from './dma-heap.js';
export { type AllocationAttempt, DmaBufError, type DmaBufErrorDetails } from './errors.js';
export { type HandleType, type OpenHandle, openHandles, setHandleTracking } from './handle.js';
export type { DmaBufInfo } from './inspect/fdinfo.js';
export { DmaBufMapping } from './mapping.js';
export { createMemfd, type MemfdOptions, type MemfdRange } from './memfd.js';
export { DmaBufPool, PooledBuffer, type PoolOptions, type PoolStatistics } from './pool.js';
export { DmaBufServer, type ServerOptions } from './server.js';
export { type FenceInfo, type FenceStatus, SyncFile, type SyncFileInfo } from './sync-file.js';
export type { WaitOptions } from './wait.js';
