import type { TracingChannel } from 'node:diagnostics_channel';
import type { Access } from '../check.js';
import { tracingOf } from '../tracing.js';

/**
 * What the tracing channel `dmabuf:access` tells of a call that prepares a buffer's bytes for the CPU or for devices
 * (DMA_BUF_IOCTL_SYNC), or copies them.
 */
export interface AccessTrace {
  /**
   * `'begin'`: START, by `cpuAccessSync()`, `withCpuAccessSync()`, and with the wait for fences by `cpuAccess()` and
   * `withCpuAccess()`. `'end'`: END, but for what `close()` and `release()` end. `'read'`: `read()` and `text()`, and `'write'`:
   * `write()`, with START and END.
   */
  operation: 'begin' | 'end' | 'read' | 'write';
  /** The direction of the access. */
  access: Access;
  /** Identifies the buffer on the whole machine. Absent where the kernel could not tell it. */
  inode?: number;
  /** The buffer's size in bytes. Absent where the kernel could not tell it. */
  size?: number;
  /** Of `'read'` and `'write'`: how many bytes are copied. */
  length?: number;
  /** What the call throws or rejects with. */
  error?: unknown;
}

/** The channel `dmabuf:access`. */
export const accessTracing: TracingChannel<unknown, AccessTrace> = tracingOf('dmabuf:access');
