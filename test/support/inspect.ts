import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { release } from 'node:os';
import { type BufferUsage, type Snapshot, type SnapshotSource, snapshot } from 'dmabuf/inspect';

const [major, minor] = release().split('.').map(Number) as [number, number];

/** Whether this kernel has an iterator over its dma-bufs: then it must work. */
export const hasIterator: boolean = major > 6 || (major === 6 && minor >= 18);

/** Whether this kernel has statistics in sysfs: those of Debian have not, that of npm run prove:kernel has. */
export const hasStatistics: boolean = existsSync('/sys/kernel/dmabuf/buffers');

/** A source that this kernel lacks. */
export const missingSource: SnapshotSource = hasStatistics ? 'bpf' : 'sysfs';

/** The sources that tell who holds a buffer. */
export const holderSources: readonly SnapshotSource[] = hasIterator ? ['procfs', 'bpf'] : ['procfs'];

/** The sources that list every buffer. */
export const listingSources: readonly SnapshotSource[] = hasIterator ? ['bpf', 'debugfs'] : ['debugfs'];

/** All that this kernel has. */
export const allSources: readonly (SnapshotSource | 'auto')[] = ['auto', 'procfs', ...listingSources];

/** The buffer with this inode in a snapshot; it must be there once. */
export function find(taken: Snapshot, inode: number): BufferUsage | undefined {
  const found = taken.buffers.filter((buffer) => buffer.inode === inode);
  assert.ok(found.length <= 1, `buffer ${inode} is there ${found.length} times`);
  return found[0];
}

/** What a source says of one buffer. */
export async function look(source: SnapshotSource | 'auto', inode: number): Promise<BufferUsage | undefined> {
  return find(await snapshot({ source }), inode);
}

/** Asserts what must be true of every snapshot: its parts agree with each other. */
export function checkSums(taken: Snapshot): void {
  const { buffers, processes, exporters, total, unaccounted } = taken;
  const sum = (numbers: number[]): number => numbers.reduce((a, b) => a + b, 0);
  assert.equal(new Set(buffers.map(({ inode }) => inode)).size, buffers.length, 'a buffer is there twice');
  assert.deepEqual(total, { buffers: buffers.length, size: sum(buffers.map(({ size }) => size)) });
  assert.deepEqual(
    { buffers: sum(exporters.map((usage) => usage.buffers)), size: sum(exporters.map(({ size }) => size)) },
    total,
  );
  const held = buffers.filter(({ holders }) => holders.length > 0);
  const heldSize = sum(held.map(({ size }) => size));
  assert.ok(Math.abs(sum(processes.map(({ pss }) => pss)) - heldSize) < 1, 'the shares make the whole');
  for (const process of processes) {
    const of = buffers.filter(({ holders }) => holders.some(({ pid }) => pid === process.pid));
    assert.equal(process.rss, sum(of.map(({ size }) => size)));
    assert.equal(process.buffers, of.length);
    assert.ok(process.fds + process.mappings >= process.buffers);
  }
  if (unaccounted === undefined) return;
  assert.deepEqual(unaccounted, { buffers: buffers.length - held.length, size: total.size - heldSize });
}
