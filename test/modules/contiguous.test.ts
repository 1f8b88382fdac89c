// Real contiguous memory: the heap of the kernel's CMA, with cma= on its command line.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { allocate, allocateSync, type DmaBuf, DmaBufError, DmaBufPool, DmaHeap } from 'dmabuf';
import { rejectsCode, throwsCode } from '../support/expect.js';
import { kernelTest } from '../support/kernel-test.js';
import { packageRoot } from '../support/programs.js';

const MiB = 1 << 20;

const areas = '/sys/kernel/mm/cma';
const heap = DmaHeap.list().find(({ kind }) => kind === 'cma');
const unless =
  heap === undefined && 'there is no contiguous heap: dmabuf vm --modules cma_heap --append cma=192M';

const contiguousTest = (name: string, body: () => void | Promise<void>): void =>
  kernelTest(name, body, unless);

test('these tests run where the kernel has contiguous memory', { skip: !existsSync(areas) && unless }, () => {
  assert.ok(heap !== undefined);
});

/** A figure of /proc/meminfo, in bytes. */
function memory(name: string): number {
  const line = new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(readFileSync('/proc/meminfo', 'utf8'));
  return Number(line?.[1]) * 1024;
}

/** How many processes the kernel has killed since it started because memory was used up. */
function killed(): number {
  return Number(/^oom_kill (\d+)$/m.exec(readFileSync('/proc/vmstat', 'utf8'))?.[1]);
}

function closeAll(buffers: Iterable<{ close(): void }>): void {
  for (const buffer of buffers) buffer.close();
}

/** All buffers of a size that the heap had, until it refused. */
interface Exhausted extends Disposable {
  held: DmaBuf[];
  error: DmaBufError;
}

function exhaust(size: number, from = 'cma'): Exhausted {
  using source = DmaHeap.open(from);
  const held: DmaBuf[] = [];
  try {
    while (held.length * size <= memory('CmaTotal')) held.push(source.allocateSync(size));
  } catch (error) {
    assert.ok(error instanceof DmaBufError, String(error));
    return { held, error, [Symbol.dispose]: () => closeAll(held) };
  }
  closeAll(held);
  assert.fail('the heap has given more than there is');
}

// ---------- names

contiguousTest('the two devices of the default region are listed as one heap', () => {
  const names = readdirSync('/dev/dma_heap').filter((name) => name !== 'system');
  const [first = '', ...others] = names.sort();
  assert.deepEqual(
    DmaHeap.list().filter(({ kind }) => kind === 'cma'),
    [
      {
        name: first,
        path: `/dev/dma_heap/${first}`,
        kind: 'cma',
        accessible: true,
        ...(others.length > 0 ? { aliases: others } : {}),
      },
    ],
  );
  const { status, stdout } = spawnSync(
    process.execPath,
    [join(packageRoot, 'dist/package/cli.js'), 'heaps', '--json'],
    { encoding: 'utf8' },
  );
  assert.equal(status, 0);
  const listed = JSON.parse(stdout) as { name: string; kind: string; aliases?: string[] }[];
  assert.deepEqual(
    listed.filter(({ kind }) => kind === 'cma').map(({ name, aliases = [] }) => [name, aliases]),
    [[first, others]],
  );
});

contiguousTest('every name of the region opens it, and takes from the same memory', () => {
  const { name, aliases = [] } = heap as { name: string; aliases?: string[] };
  {
    using buffer = allocateSync(MiB, { from: 'cma', name: 'frame' });
    assert.deepEqual([buffer.source, buffer.info().exporter], [name, name]);
  }
  using all = exhaust(8 * MiB, name);
  const { held } = all;
  for (const other of aliases) {
    using sameMemory = DmaHeap.open(other);
    throwsCode(() => sameMemory.allocateSync(8 * MiB), 'ENOMEM');
    held.pop()?.close();
    using buffer = sameMemory.allocateSync(8 * MiB);
    assert.deepEqual([buffer.source, buffer.info().exporter], [other, other]);
  }
});

// ---------- memory

contiguousTest('memory that somebody has used before comes zeroed', async () => {
  using all = exhaust(16 * MiB);
  const { held } = all;
  for (const buffer of held) buffer.withCpuAccessSync('write', (bytes) => void bytes.fill(255));
  closeAll(held);
  using buffer = await allocate(16 * MiB, { from: 'cma' });
  const target = Buffer.alloc(16 * MiB, 1);
  buffer.read(target);
  assert.ok(target.equals(Buffer.alloc(16 * MiB)));
});

// ---------- exhaustion

contiguousTest('a region that is used up says ENOMEM, and what to do; all of it comes back', async () => {
  const before = killed();
  using all = exhaust(4 * MiB);
  const { held, error } = all;
  assert.deepEqual([error.code, error.errno, error.syscall], ['ENOMEM', -12, 'DMA_HEAP_IOCTL_ALLOC']);
  assert.match(
    error.hint ?? '',
    /contiguous heap may be fragmented or too small \(cma= on the kernel command line\)/,
  );
  assert.ok(held.length * 4 * MiB > memory('CmaTotal') / 2, `${held.length} buffers`);
  using source = DmaHeap.open('cma');
  await rejectsCode(() => source.allocate(4 * MiB), 'ENOMEM');
  throwsCode(() => source.allocateSync(4 * MiB, { unchecked: true }), 'ENOMEM');
  closeAll(held);
  using again = exhaust(4 * MiB);
  assert.equal(again.held.length, held.length);
  assert.equal(killed(), before);
});

contiguousTest('a chain goes on where contiguous memory is used up, and tells why', async () => {
  using _all = exhaust(4 * MiB);
  const options = { from: ['cma', 'system'] };
  for (const make of [() => allocate(4 * MiB, options), async () => allocateSync(4 * MiB, options)]) {
    using buffer = await make();
    assert.equal(buffer.source, 'system');
    const [attempt, ...others] = buffer.attempts;
    assert.deepEqual([attempt?.source, attempt?.error.code, others.length], ['cma', 'ENOMEM', 0]);
    assert.match(attempt?.error.hint ?? '', /cma= on the kernel command line/);
  }
  const { attempts, message } = await rejectsCode(
    () => allocate(4 * MiB, { from: ['cma', 'no-such-heap'] }),
    'ERR_DMABUF_NO_SOURCE',
  );
  assert.deepEqual(
    attempts?.map(({ source, error }) => [source, error.code]),
    [
      ['cma', 'ENOMEM'],
      ['no-such-heap', 'ENOENT'],
    ],
  );
  assert.match(message, /\n {2}cma: ENOMEM: .*contiguous heap may be fragmented or too small/);
});

contiguousTest(
  'a region in pieces has no room for larger buffers until pieces beside each other come back',
  async () => {
    using all = exhaust(4 * MiB);
    const { held } = all;
    // The kernel takes the lowest place that is free: in the order of their making, one lies beside the other.
    closeAll(held.filter((_, index) => index % 2 === 1));
    using source = DmaHeap.open('cma');
    const error = await rejectsCode(() => source.allocate(8 * MiB), 'ENOMEM');
    assert.match(error.hint ?? '', /may be fragmented/);
    {
      using buffer = await allocate(8 * MiB, { from: ['cma', 'system'] });
      assert.deepEqual([buffer.source, buffer.attempts[0]?.error.code], ['system', 'ENOMEM']);
      using small = await allocate(4 * MiB, { from: ['cma', 'system'] });
      assert.equal(small.source, source.name);
    }
    held[(held.length >> 2) * 2]?.close();
    using large = await source.allocate(8 * MiB);
    assert.equal(large.size, 8 * MiB);
  },
);

contiguousTest(
  'of more requests at once than there is memory for, each is served or told ENOMEM',
  async () => {
    const total = memory('CmaTotal');
    const size = 16 * MiB;
    using source = DmaHeap.open('cma');
    const outcomes = await Promise.allSettled(
      Array.from({ length: Math.ceil((1.5 * total) / size) }, () => source.allocate(size)),
    );
    const served = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
    const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
    assert.deepEqual(new Set(refused.map(({ code }) => code)), new Set(['ENOMEM']));
    assert.ok(
      served.length * size > total / 2 && served.length * size <= total,
      `${served.length} were served`,
    );
    closeAll(served);
  },
);

// ---------- pools

contiguousTest(
  "a pool on 'cma' alone gives what there is, says ENOMEM, and goes on with what comes back",
  async () => {
    using pool = new DmaBufPool(32 * MiB, { from: 'cma', max: 1000 });
    const loans = [];
    let error: unknown;
    while (error === undefined) {
      try {
        loans.push(await pool.acquire());
      } catch (thrown) {
        error = thrown;
      }
    }
    const { code, attempts } = error as DmaBufError;
    assert.deepEqual([code, attempts?.[0]?.error.code], ['ERR_DMABUF_NO_SOURCE', 'ENOMEM']);
    assert.equal(pool.statistics().inUse, loans.length);
    assert.ok(loans.every(({ buffer }) => buffer.source === heap?.name));
    loans.pop()?.release();
    loans.push(await pool.acquire());
    assert.equal(pool.statistics().reused, 1);
    for (const loan of loans) loan.release();
    assert.equal(pool.statistics().idle, loans.length);
    assert.equal(pool.trim(), loans.length);
    using all = exhaust(32 * MiB);
    const { held } = all;
    assert.equal(held.length, loans.length);
  },
);

contiguousTest("a pool on 'cma' and 'system' goes on with the next", async () => {
  using all = exhaust(8 * MiB);
  const { held } = all;
  held.pop()?.close();
  using pool = new DmaBufPool(8 * MiB, { from: ['cma', 'system'], max: 3 });
  const loans = [await pool.acquire(), await pool.acquire(), await pool.acquire()];
  assert.deepEqual(
    loans.map(({ buffer }) => buffer.source),
    [heap?.name, 'system', 'system'],
  );
  for (const loan of loans) loan.release();
});

// ---------- the memory guard

/** Memory of this process's own, which the kernel may have to move out of the way. */
function ownMemory(size: number): Buffer[] {
  return Array.from({ length: size / (16 * MiB) }, () => Buffer.alloc(16 * MiB, 1));
}

/** Has the page cache hold a large file. */
function readFile(path: string): void {
  const piece = Buffer.alloc(MiB);
  const file = openSync(path, 'r');
  while (readSync(file, piece) > 0);
  closeSync(file);
}

contiguousTest(
  'the guard leaves contiguous memory to the kernel, which moves programs and page cache away',
  async () => {
    const before = killed();
    using source = DmaHeap.open('cma');
    const size = Math.floor((0.7 * memory('CmaTotal')) / MiB) * MiB;
    const own = ownMemory(320 * MiB);
    readFile(process.execPath);
    {
      using buffer = await source.allocate(size);
      assert.equal(buffer.size, size);
    }
    assert.ok(own.every((piece) => piece[piece.length - 1] === 1));
    assert.equal(killed(), before);
  },
);

contiguousTest('other heaps are not given what lies in contiguous memory: the guard says so', async () => {
  const before = killed();
  const size = memory('MemAvailable') - 32 * MiB;
  const { message } = throwsCode(() => allocateSync(size, { from: 'system' }), 'ERR_DMABUF_MEMORY_GUARD');
  const [, available] =
    / and (\d+) are available \(MemAvailable minus CmaFree and the page cache/.exec(message) ?? [];
  // What it says is there is served, but for what other programs have taken meanwhile.
  using buffer = await allocate(Number(available) - 16 * MiB, { from: 'system' });
  assert.equal(buffer.source, 'system');
  assert.equal(killed(), before);
});

contiguousTest('what no machine of this size could have is refused of contiguous memory too', async () => {
  await rejectsCode(() => allocate(2 ** 40, { from: 'cma' }), 'ERR_DMABUF_MEMORY_GUARD');
  using source = DmaHeap.open('cma');
  throwsCode(() => source.allocateSync(2 ** 40), 'ERR_DMABUF_MEMORY_GUARD');
  throwsCode(() => source.allocateSync(memory('CmaTotal') + MiB), 'ENOMEM');
});
