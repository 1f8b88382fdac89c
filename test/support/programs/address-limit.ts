// Comes to the limit on addresses (RLIMIT_AS), which it sets a little above what it uses, and past it.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { allocateSync, openHandles } from 'dmabuf';
import { openFds } from '../descriptors.js';
import { type ReportedError, reportError } from '../expect.js';
import { mappings } from '../proc.js';
import { report } from '../programs.js';

/** What became of the calls while no addresses were left. */
export interface AddressLimitReport {
  readonly refusals: Record<'map' | 'read' | 'write' | 'cpuAccessSync' | 'withCpuAccess', ReportedError>;
  /** Whether a smaller range could be mapped, and the rest afterwards. */
  readonly part: number;
  readonly afterwards: number;
  /** What was there more than before. */
  readonly left: { fds: number; mappings: number; handles: number };
}

const size = 64 << 20;

function used(): number {
  return Number(/^VmSize:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1]) * 1024;
}

function limit(bytes: number | 'unlimited'): void {
  // Only the soft limit: that may be raised again.
  execFileSync('prlimit', ['--pid', String(process.pid), `--as=${bytes}:`]);
}

async function refusal(fn: () => unknown): Promise<ReportedError> {
  try {
    await fn();
  } catch (error) {
    return reportError(error);
  }
  throw new Error(`${fn} was not refused`);
}

const buffer = allocateSync(size, { from: 'system' });
const before = { fds: openFds().size, mappings: mappings().length, handles: openHandles().length };
limit(used() + size / 2);
const refusals = {
  map: await refusal(() => buffer.map()),
  read: await refusal(() => buffer.read(new Uint8Array(1))),
  write: await refusal(() => buffer.write(new Uint8Array(1))),
  cpuAccessSync: await refusal(() => buffer.cpuAccessSync('read')),
  withCpuAccess: await refusal(() => buffer.withCpuAccess('write', () => {})),
};
const mapping = buffer.map({ offset: size - 4096, length: 4096 });
mapping.bytes[4095] = 7;
const part = mapping.bytes[4095] as number;
mapping.unmap();
const left = {
  fds: openFds().size - before.fds,
  mappings: mappings().length - before.mappings,
  handles: openHandles().length - before.handles,
};
limit('unlimited');
const afterwards = buffer.withCpuAccessSync('read', (bytes) => bytes[size - 1] as number);
buffer.close();
report({ refusals, part, left, afterwards } satisfies AddressLimitReport);
