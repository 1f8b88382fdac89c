import type { TracingChannel } from 'node:diagnostics_channel';
import type { Access } from '../check.js';
import { tracingOf } from '../tracing.js';

/**
 * What the tracing channel `dmabuf:access` reports about a call that prepares a buffer's bytes for the CPU or for devices
 * (DMA_BUF_IOCTL_SYNC), or copies them.
 */
export interface AccessTrace {
  /**
   * `'begin'`: START, in `cpuAccessSync()` and `withCpuAccessSync()`, and together with the wait for fences in
   * `cpuAccess()` and `withCpuAccess()`. `'end'`: END, except in `close()` and `release()`. `'read'`: `read()` and
   * `text()`, and `'write'`: `write()`, with START and END.
   */
  operation: 'begin' | 'end' | 'read' | 'write';
  /** The direction of the access. */
  access: Access;
  /** Identifies the buffer on the whole machine. Absent if the kernel did not report it. */
  inode?: number;
  /** The buffer's size in bytes. Absent if the kernel did not report it. */
  size?: number;
  /** For `'read'` and `'write'`: how many bytes are copied. */
  length?: number;
  /** What the call throws or rejects with. */
  error?: unknown;
}

/** The channel `dmabuf:access`. */
export const accessTracing: TracingChannel<unknown, AccessTrace> = tracingOf('dmabuf:access');
