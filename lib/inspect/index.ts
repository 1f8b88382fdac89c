// TypeScript 6 and later load the types of Node.js only when they are referenced, and the declarations need them.
/// <reference types="node" preserve="true" />

/**
 * Shows which dma-bufs exist on this machine, which processes hold them, and what changes.
 *
 * Sizes are in bytes. A bad argument throws a TypeError `ERR_INVALID_ARG_TYPE` or a RangeError `ERR_OUT_OF_RANGE`;
 * every other failure is a `DmaBufError` of `dmabuf`.
 *
 * @module dmabuf/inspect
 */

export { type DmaBufInfo, parseFdInfo, readFdInfo } from '../buffer/fdinfo.js';
export { type BufferChange, diff, type ProcessChange, type SnapshotDiff } from './diff.js';
export { examine, type Finding } from './doctor.js';
export type {
  BufferHolder,
  BufferUsage,
  ExporterUsage,
  ProcessUsage,
  Snapshot,
  SnapshotSource,
  SourceAttempt,
  Unreadable,
} from './model.js';
export type { SnapshotOptions } from './options.js';
export { type PinOptions, pinSync, unpinSync } from './pin.js';
export { snapshot } from './snapshot.js';
export { type WatchOptions, watch } from './watch.js';
