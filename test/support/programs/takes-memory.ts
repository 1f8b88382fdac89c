// Runs in a control group with little memory. DMABUF_TEST_TASK: what to do there.

import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { isMainThread, type MessagePort, parentPort, Worker, workerData } from 'node:worker_threads';
import { allocate, allocateSync, createMemfd, DmaBuf } from 'dmabuf';
import { examine, type Finding } from 'dmabuf/inspect';
import { type ReportedError, reportError } from '../expect.js';
import { packageRoot, report } from '../programs.js';

export interface Outcome {
  source?: string | undefined;
  attempts?: string[];
  error?: ReportedError;
}

export interface MemoryReport {
  outcomes: Outcome[];
  findings?: Finding[];
}

const MiB = 1 << 20;

async function outcomeOf(make: () => DmaBuf | Promise<DmaBuf>): Promise<Outcome> {
  try {
    using buffer = await make();
    return { source: buffer.source, attempts: buffer.attempts.map(({ error }) => error.code) };
  } catch (error) {
    return { error: reportError(error) };
  }
}

/** Has so many bytes of files in the page cache that nobody has read before, charged to this group. */
function fillPageCache(size: number): void {
  writeFileSync('/proc/sys/vm/drop_caches', '1');
  const piece = Buffer.alloc(MiB);
  let left = size;
  for (const entry of readdirSync(`${packageRoot}/node_modules`, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || left <= 0) continue;
    const file = openSync(join(entry.parentPath, entry.name), 'r');
    for (let count = 1; count > 0; left -= count) count = readSync(file, piece);
    closeSync(file);
  }
}

/** What this process's group is charged with. */
function chargedBytes(): number {
  const mount = /^\S+ (\S+) cgroup2 /m.exec(readFileSync('/proc/mounts', 'utf8'))?.[1];
  const group = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1];
  return Number(readFileSync(`${mount}${group}/memory.current`, 'utf8'));
}

const from = 'udmabuf';

interface WorkerTask {
  /** Waits until all others do, and reports what came of it; or asks at once, and says that it has. */
  task: 'atOnce' | 'atOnceSync' | 'asks';
  size: number;
  /** How many others have yet to come. */
  awaited: Int32Array<SharedArrayBuffer>;
}

function shared(count: number): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(4)).fill(count);
}

function startWorker(task: WorkerTask['task'], size: number, awaited = shared(1)): Worker {
  return new Worker(new URL(import.meta.url), { workerData: { task, size, awaited } satisfies WorkerTask });
}

function meet(awaited: WorkerTask['awaited']): void {
  for (let left = Atomics.sub(awaited, 0, 1) - 1; left > 0; left = Atomics.load(awaited, 0)) {
    Atomics.wait(awaited, 0, left);
  }
  Atomics.notify(awaited, 0);
}

async function askInWorker({ task, size, awaited }: WorkerTask): Promise<void> {
  allocateSync(4096, { from }).close(); // what is loaded at the first use is there
  if (task === 'asks') {
    const asked = allocate(size, { from });
    parentPort?.postMessage('asked');
    await asked;
    return;
  }
  meet(awaited);
  try {
    const buffer = task === 'atOnce' ? await allocate(size, { from }) : allocateSync(size, { from });
    parentPort?.postMessage({ source: buffer.source } satisfies Outcome);
    await once(parentPort as MessagePort, 'message'); // the other may not have asked yet
  } catch (error) {
    parentPort?.postMessage({ error: reportError(error) } satisfies Outcome);
  }
}

/** What two workers get who ask for more at the same moment than there is for both. */
async function outcomesOfWorkers(sync: boolean): Promise<Outcome[]> {
  const awaited = shared(2);
  const workers = [1, 2].map(() => startWorker(sync ? 'atOnceSync' : 'atOnce', 96 * MiB, awaited));
  const outcomes = await Promise.all(
    workers.map(async (worker) => (await once(worker, 'message'))[0] as Outcome),
  );
  await Promise.all(workers.map((worker) => worker.terminate()));
  return outcomes;
}
const tasks: Record<string, () => Promise<MemoryReport>> = {
  large: async () => ({
    outcomes: [
      await outcomeOf(() => allocate(400 * MiB, { from })),
      await outcomeOf(() => allocateSync(400 * MiB, { from })),
      await outcomeOf(() => allocate(400 * MiB, { from: ['udmabuf', 'system'] })),
    ],
  }),
  small: async () => ({ outcomes: [await outcomeOf(() => allocate(32 * MiB, { from }))] }),
  many: async () => {
    // Each is below what the guard looks at by itself.
    const held: DmaBuf[] = [];
    const outcome = await outcomeOf(() => {
      for (;;) held.push(allocateSync(256 * 1024, { from }));
    });
    for (const buffer of held) buffer.close();
    return { outcomes: [outcome] };
  },
  atOnce: async () => ({
    outcomes: await Promise.all([96, 96].map((size) => outcomeOf(() => allocate(size * MiB, { from })))),
  }),
  halfServed: async () => {
    const start = chargedBytes();
    let isPending = true;
    const first = outcomeOf(() => allocate(96 * MiB, { from }).finally(() => (isPending = false)));
    while (isPending && chargedBytes() < start + 72 * MiB) await setImmediate();
    if (!isPending) throw new Error('the first request was done before anybody saw it half served');
    return { outcomes: [await outcomeOf(() => allocateSync(32 * MiB, { from })), await first] };
  },
  afterEachOther: async () => ({
    outcomes: [
      await outcomeOf(() => allocate(96 * MiB, { from })),
      await outcomeOf(() => allocate(96 * MiB, { from })),
    ],
  }),
  memfd: async () => {
    const sparse = createMemfd(400 * MiB);
    const outcomes = [
      await outcomeOf(() => DmaBuf.fromMemfd(sparse)),
      await outcomeOf(() => DmaBuf.fromMemfd(sparse, { offset: 0, size: 8 * MiB })),
    ];
    closeSync(sparse);
    return { outcomes };
  },
  writtenMemfd: async () => {
    // More than half of the limit: once written, its pages are there and need no second place.
    const memfd = createMemfd(96 * MiB);
    for (let place = 0; place < 96; place++) writeSync(memfd, Buffer.alloc(MiB, 1), 0, MiB, place * MiB);
    const outcomes = [await outcomeOf(() => DmaBuf.fromMemfd(memfd))];
    closeSync(memfd);
    return { outcomes };
  },
  cache: async () => {
    fillPageCache(Number(process.env.DMABUF_TEST_CACHE));
    return { outcomes: [await outcomeOf(() => allocate(96 * MiB, { from }))] };
  },
  workers: async () => ({ outcomes: await outcomesOfWorkers(false) }),
  workersSync: async () => ({ outcomes: await outcomesOfWorkers(true) }),
  dyingWorker: async () => {
    const worker = startWorker('asks', 96 * MiB);
    await once(worker, 'message');
    await worker.terminate();
    return { outcomes: [await outcomeOf(() => allocate(96 * MiB, { from }))] };
  },
  doctor: async () => ({ outcomes: [], findings: await examine() }),
};

if (isMainThread) {
  report(await (tasks[process.env.DMABUF_TEST_TASK as string] as () => Promise<MemoryReport>)());
} else {
  await askInWorker(workerData as WorkerTask);
}
