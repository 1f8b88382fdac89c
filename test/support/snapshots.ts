import type { BufferUsage, Snapshot } from '../../lib/inspect/model.js';

/** A buffer as a snapshot has it, of which a test says what matters to it. */
export function bufferUsage(fields: Partial<BufferUsage> & { inode: number }): BufferUsage {
  return { size: 4096, exporter: 'system', references: 1, holders: [], ...fields };
}

/** A snapshot of these buffers, each holder of which is a process `p<pid>`. */
export function snapshotOf(buffers: BufferUsage[], fields: Partial<Snapshot> = {}): Snapshot {
  const pids = [...new Set(buffers.flatMap(({ holders }) => holders.map(({ pid }) => pid)))];
  const size = buffers.reduce((sum, buffer) => sum + buffer.size, 0);
  return {
    time: new Date(0),
    source: ['procfs'],
    buffers,
    processes: pids.map((pid) => {
      const held = buffers.filter(({ holders }) => holders.some((holder) => holder.pid === pid));
      const rss = held.reduce((sum, buffer) => sum + buffer.size, 0);
      return { pid, command: `p${pid}`, buffers: held.length, fds: held.length, mappings: 0, rss, pss: rss };
    }),
    exporters: [{ exporter: 'system', buffers: buffers.length, size }],
    total: { buffers: buffers.length, size },
    unreadable: [],
    attempts: [],
    ...fields,
  };
}
