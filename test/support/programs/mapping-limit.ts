// Comes to the limit on mappings, which is lowered for that, and past it. The whole machine's: of a guest only.

import { readFileSync, writeFileSync } from 'node:fs';
import { allocateSync, type DmaBufMapping } from 'dmabuf';
import { filled } from '../buffers.js';
import { collectGarbage, turn } from '../event-loop.js';
import { type ReportedError, reportError } from '../expect.js';
import { mappings } from '../proc.js';
import { report } from '../programs.js';

const file = '/proc/sys/vm/max_map_count';
const usual = readFileSync(file, 'utf8').trim();
const page = 4096;

function limit(most: number | string): void {
  writeFileSync(file, String(most));
}

function all(): number {
  return readFileSync('/proc/self/maps', 'latin1').split('\n').length - 1;
}

function tried(fn: () => unknown): ReportedError | undefined {
  try {
    fn();
    return undefined;
  } catch (error) {
    return reportError(error);
  }
}

const first = (bytes: Uint8Array): number => bytes[0] as number;

async function nearLimit() {
  const most = 2000;
  limit(most);
  const buffer = allocateSync(3 * page);
  const other = allocateSync(page);
  const kept: DmaBufMapping[] = [];
  let refusal: ReportedError | undefined;
  for (let index = 0; refusal === undefined; index++) {
    refusal = tried(() => void kept.push(buffer.map({ offset: page * (index % 3), length: page })));
  }
  const count = kept.length;
  const left = most - all();
  const others = {
    read: tried(() => other.read(new Uint8Array(1))),
    cpuAccessSync: tried(() => other.cpuAccessSync('read')),
  };
  // What V8 itself maps.
  const memory = Array.from({ length: 64 }, () => new Uint8Array(1 << 20).fill(1));
  kept.length = 0;
  buffer.close();
  for (let round = 0; round < 5; round++) {
    collectGarbage();
    await turn();
  }
  const again = tried(() => other.map());
  limit(usual);
  other.close();
  return { refusal, count, left, others, memory: memory.length, again, mapped: mappings().length };
}

function atLimit() {
  const [buffer, mapping] = filled(3 * page);
  const [other, kept] = filled(3 * page);
  const access = other.cpuAccessSync('read');
  const { bytes } = mapping;
  const held = kept.bytes;
  limit(all() - 3);
  const errors = [tried(() => mapping.unmap()), tried(() => other.close()), tried(() => buffer.close())];
  const left = mappings().length;
  limit(usual);
  return { errors, bytes: [bytes, held, access.bytes].map(first), left };
}

function pastLimit() {
  const [buffer, mapping] = filled(3 * page);
  const second = buffer.map({ offset: page });
  const { bytes } = mapping;
  buffer.cpuAccessSync('read').end();
  limit(all() - 60);
  const refused = {
    unmap: tried(() => mapping.unmap()),
    close: tried(() => buffer.close()),
    release: tried(() => buffer.release()),
  };
  const then = {
    closed: [buffer.closed, mapping.closed, second.closed],
    first: first(mapping.bytes),
    bytes: first(bytes),
  };
  limit(usual);
  const target = new Uint8Array(1);
  buffer.read(target);
  mapping.unmap();
  const unmapped = [first(bytes), target[0], mapping.closed, second.closed];
  buffer.close();
  return { refused, then, unmapped, closed: [buffer.closed, second.closed], left: mappings().length };
}

export interface MappingLimitReport {
  near: Awaited<ReturnType<typeof nearLimit>>;
  at: ReturnType<typeof atLimit>;
  past: ReturnType<typeof pastLimit>;
}

try {
  report({ near: await nearLimit(), at: atLimit(), past: pastLimit() } satisfies MappingLimitReport);
} finally {
  limit(usual);
}
