import type { DmaBufError } from '../errors.js';

/**
 * A kernel interface that snapshots read: `/proc/<pid>` (Linux 5.3), BPF iterators (6.18 for the buffers, 5.12 for
 * their holders), debugfs (5.3) or the statistics in sysfs (5.13, later removed).
 */
export type SnapshotSource = 'procfs' | 'bpf' | 'debugfs' | 'sysfs';

/** What one process has of one buffer. */
export interface BufferHolder {
  /** Process id. */
  pid: number;
  /** Descriptors that refer to the buffer. */
  fds: number;
  /** Mappings of it, whole or in part. */
  mappings: number;
}

/** One dma-buf of the machine. */
export interface BufferUsage {
  /** Identifies the buffer on the whole machine, for as long as it exists. */
  inode: number;
  /** Bytes. */
  size: number;
  /** Set when the size is at least `size`: only mappings were seen, without the right to read the whole size. */
  sizeIsLowerBound?: true;
  /** The driver or heap that made it: `'system'`, `'udmabuf'`, `'drm'`, … Absent when no source knows it. */
  exporter?: string;
  /**
   * Absent when unset or unknown. Any holder may set it to any bytes: escape it when you show it, and never rely on it.
   */
  name?: string;
  /** The number of references: descriptors, mappings, drivers, messages in flight. Absent when no source knows it. */
  references?: number;
  /** The devices that are attached to it, by their kernel names. Only debugfs lists them; absent without it. */
  devices?: string[];
  /** The visible processes that hold it. */
  holders: BufferHolder[];
}

/** What one process holds. Sizes are in bytes. */
export interface ProcessUsage {
  /** Process id. */
  pid: number;
  /**
   * The name of its main thread (`/proc/<pid>/comm`, 15 bytes at most, as untrusted as a buffer's name); `''` when the
   * process has ended. If the name is `MainThread`, as in Node.js since 24, the name of the program instead.
   */
  command: string;
  /** How many different buffers it holds. */
  buffers: number;
  /** How many descriptors of buffers it has. */
  fds: number;
  /** How many mappings of buffers it has, whole or in part. */
  mappings: number;
  /** The total size of the different buffers that it holds. */
  rss: number;
  /** Its share: each buffer's size is divided by the number of processes that hold it. */
  pss: number;
}

/** The buffers of one exporter. */
export interface ExporterUsage {
  /** `''` for buffers whose exporter no source knows. */
  exporter: string;
  /** How many. */
  buffers: number;
  /** Bytes, each buffer once. */
  size: number;
}

/** A process that could not be read completely. */
export interface Unreadable {
  /** Process id. */
  pid: number;
  /**
   * The errno's name: `'EACCES'` (another user's process), `'ESRCH'` (a process in `pids` that does not exist),
   * `'ETIMEDOUT'` (it keeps its memory map locked, or the lock of a file that it has put in a dma-buf's place),
   * `'EAGAIN'` (no thread is left to inspect it, or its user's other processes occupy too many), `'EOVERFLOW'` (a
   * figure of 2^53 or more, which no real dma-buf has), or another.
   */
  error: string;
  /** The part that could not be read. */
  what: 'descriptors' | 'mappings' | 'both';
}

/** A source that could not be used, and why. */
export interface SourceAttempt {
  /** The source. */
  source: SnapshotSource;
  /** The reason, with a hint where one is known. */
  error: DmaBufError;
}

/** The dma-bufs of the machine at one moment. */
export interface Snapshot {
  /** When the snapshot was started. */
  time: Date;
  /** The kernel interfaces that were read. */
  source: SnapshotSource[];
  /** In the order of their inodes. */
  buffers: BufferUsage[];
  /** The processes that hold buffers, in the order of their ids. */
  processes: ProcessUsage[];
  /** In the order of their sizes, the largest first. */
  exporters: ExporterUsage[];
  /** Each buffer once. */
  total: {
    /** How many. */
    buffers: number;
    /** Bytes. */
    size: number;
  };
  /**
   * The buffers that no visible process holds, but a driver, a message in flight, or a process in `unreadable`. Absent
   * when no source lists every buffer.
   */
  unaccounted?: {
    /** How many. */
    buffers: number;
    /** Bytes. */
    size: number;
  };
  /** The processes that could not be read completely: what they hold may be missing above. */
  unreadable: Unreadable[];
  /** Better sources, and why they could not be used. */
  attempts: SourceAttempt[];
}
