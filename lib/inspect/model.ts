import type { DmaBufError } from '../errors.js';

/**
 * An interface of the kernel that a snapshot is read from: `/proc/<pid>` (Linux 5.3), BPF iterators (6.18 for the buffers,
 * 5.12 for their holders), debugfs (5.3) or the statistics in sysfs (5.13, later removed).
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

/** One dma-buf of the system. */
export interface BufferUsage {
  /** Identifies the buffer on the whole system, for as long as it exists. */
  inode: number;
  /** Bytes. */
  size: number;
  /** The size is not known but at least `size`: only mappings were seen, and no right to look behind them. */
  sizeIsLowerBound?: true;
  /** The driver that made it: `'system'` (a heap's name), `'udmabuf'`, `'drm'`, … Absent when no source could tell. */
  exporter?: string;
  /** Absent when unset or unknown. Any user of a buffer may set it to any bytes: show it escaped, trust it in nothing. */
  name?: string;
  /** Who holds it, anywhere: descriptors, mappings, drivers, messages in flight. Absent when no source could tell. */
  references?: number;
  /** Devices that have attached to it, by their kernel names. Only debugfs tells: absent without it. */
  devices?: string[];
  /** The processes that could be seen to hold it. */
  holders: BufferHolder[];
}

/** What one process holds. Sizes are bytes. */
export interface ProcessUsage {
  /** Process id. */
  pid: number;
  /**
   * The name of its main thread (`/proc/<pid>/comm`, 15 bytes at most, as untrusted as a buffer's name); `''` when it is gone.
   * Where that is `MainThread`, as Node.js has it since 24, the name of its program.
   */
  command: string;
  /** Different buffers. */
  buffers: number;
  /** Descriptors of buffers. */
  fds: number;
  /** Mappings of buffers, whole or in part. */
  mappings: number;
  /** The sizes of the different buffers that it holds. */
  rss: number;
  /** Its share: each buffer's size is divided by the number of processes that hold it. */
  pss: number;
}

/** The buffers of one exporter. */
export interface ExporterUsage {
  /** `''` for buffers whose exporter no source could tell. */
  exporter: string;
  /** How many. */
  buffers: number;
  /** Bytes, each buffer once. */
  size: number;
}

/** A process of which something could not be read. */
export interface Unreadable {
  /** Process id. */
  pid: number;
  /**
   * The errno's name: `'EACCES'` (another user's process), `'ESRCH'` (asked for by `pids`, and not there), `'ETIMEDOUT'` (it
   * keeps its memory map locked, or the lock of a file that it has put in a dma-buf's place), `'EAGAIN'` (no thread is left
   * to look at it, or its user's other processes keep too many), `'EOVERFLOW'` (a figure of 2^53 or more, which no dma-buf of
   * the kernel's has), or another.
   */
  error: string;
  /** What could not be read. */
  what: 'descriptors' | 'mappings' | 'both';
}

/** A source that could not be used, and why. */
export interface SourceAttempt {
  /** Which it was. */
  source: SnapshotSource;
  /** Why not, and what to do about it where that is known. */
  error: DmaBufError;
}

/** The dma-bufs of the system at one moment. */
export interface Snapshot {
  /** When it was begun. */
  time: Date;
  /** The interfaces that it came from. */
  source: SnapshotSource[];
  /** In the order of their inodes. */
  buffers: BufferUsage[];
  /** Those that hold buffers, in the order of their ids. */
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
   * What no process that could be seen holds: a driver, a message in flight, or a process in `unreadable` does. Absent
   * when no source lists every buffer.
   */
  unaccounted?: {
    /** How many. */
    buffers: number;
    /** Bytes. */
    size: number;
  };
  /** Processes of which something could not be read: what they hold may be missing above. */
  unreadable: Unreadable[];
  /** What would have told more, or sooner, and why it could not be used. */
  attempts: SourceAttempt[];
}
