// Takes snapshots with no descriptor left, one, two, ... and reports for each what it was told: an error's code, or whether
// its own buffer was there, with its exporter and holder. Also what was said to be unreadable.

import { closeSync } from 'node:fs';
import { allocateSync } from 'dmabuf';
import { type SnapshotSource, snapshot } from 'dmabuf/inspect';
import { takeDescriptors } from '../descriptors.js';
import { report } from '../programs.js';

export interface FewDescriptorsReport {
  /** By source, then by how many descriptors were left. */
  outcomes: Record<string, string[]>;
}

using buffer = allocateSync(4096, { name: 'seen' });

async function look(source: SnapshotSource): Promise<string> {
  try {
    const { buffers, unreadable } = await snapshot({ source });
    const found = buffers.find(({ inode }) => inode === buffer.inode);
    if (found === undefined) return 'missing';
    const { exporter, size, holders } = found;
    const fds = holders.find(({ pid }) => pid === process.pid)?.fds;
    return `${exporter} ${size} ${fds}${unreadable.length > 0 ? ' unreadable' : ''}`;
  } catch (error) {
    return (error as { code: string }).code;
  }
}

// The thread pool starts, and what else opens a descriptor once.
await look('procfs');
const fillers = takeDescriptors();
const outcomes: FewDescriptorsReport['outcomes'] = { procfs: [], bpf: [] };
for (let left = 0; left < 8; left++) {
  for (const source of ['procfs', 'bpf'] as const) outcomes[source]?.push(await look(source));
  closeSync(fillers.pop() as number);
}
for (const fd of fillers) closeSync(fd);
report({ outcomes });
