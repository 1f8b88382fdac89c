export { type AllocateOptions, allocate, allocateSync, type Source } from './allocate.js';
export type { Access } from './check.js';
export { CpuAccess } from './cpu-access.js';
export { DmaBuf, type MapOptions } from './dma-buf.js';
export { type BufferOptions, DmaHeap, type HeapInfo, type HeapKind } from './dma-heap.js';
export { type AllocationAttempt, DmaBufError, type DmaBufErrorDetails } from './errors.js';
export type { DmaBufInfo } from './inspect/fdinfo.js';
export { DmaBufMapping } from './mapping.js';
