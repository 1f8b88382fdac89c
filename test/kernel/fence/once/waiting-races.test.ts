import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { allocateSync, closeHandles, DmaBuf, DmaBufChannel, DmaBufPool, importFrom } from 'dmabuf';
import { turns, watch } from '../../../support/event-loop.js';
import type { RacerData } from '../../../support/fence-racer.js';
import { fenceDevice, fenceTest } from '../../../support/fences.js';

// Every process that holds a buffer may add a fence at any moment, also between a check of the buffer and START, which
// then sleeps in the kernel. Another thread does so here, and takes the fence away only when the event loop has turned.

/** Says whether the buffer was idle. */
type Attempt = () => boolean | Promise<boolean>;

function isIdle(copy: () => unknown): boolean {
  try {
    copy();
    return true;
  } catch (error) {
    assert.equal((error as { code?: string }).code, 'EAGAIN');
    return false;
  }
}

async function isIdleFor(access: Promise<unknown>): Promise<boolean> {
  const watched = watch(access);
  for (let microtask = 0; microtask < 20; microtask++) await undefined;
  assert.notEqual(watched.state, 'rejected', String(watched.value));
  return watched.state === 'fulfilled';
}

/** Attempts again and again, while somebody who has the buffer as `fd` makes it busy again and again. */
async function race(fd: number, attempt: Attempt, rounds = 60): Promise<void> {
  const shared = new Int32Array(new SharedArrayBuffer(8));
  const workerData: RacerData = { fenceDevice: fenceDevice(), fd, rounds, shared };
  const worker = new Worker(new URL('../../../support/fence-racer.js', import.meta.url), { workerData });
  const end = watch(once(worker, 'exit'));
  while (end.state === 'pending') {
    Atomics.add(shared, 0, 1);
    Atomics.notify(shared, 0);
    // Until the fence comes, so that it comes at any moment of an attempt.
    while (Atomics.load(shared, 1) === 0 && (await attempt()));
    await turns(1);
  }
  assert.deepEqual(end, { state: 'fulfilled', value: [0] });
}

const attempts: Record<string, (buffer: DmaBuf) => boolean | Promise<boolean>> = {
  'read()': (buffer) => isIdle(() => buffer.read(new Uint8Array(8))),
  'text()': (buffer) => isIdle(() => buffer.text({ length: 8 })),
  'write()': (buffer) => isIdle(() => buffer.write(new Uint8Array(8))),
  'cpuAccess()': (buffer) => isIdleFor(buffer.cpuAccess('read').then((access) => access.end())),
  'withCpuAccess()': (buffer) => isIdleFor(buffer.withCpuAccess('write', () => {})),
};
for (const [name, attempt] of Object.entries(attempts)) {
  fenceTest(`${name} does not stop the event loop when a fence comes before START`, async () => {
    using buffer = allocateSync(4096);
    await race(buffer.fd, () => attempt(buffer));
    await buffer.ready('write');
    await turns();
  });
}

fenceTest('a pool that clears does not stop the event loop when a fence comes before START', async () => {
  using pool = new DmaBufPool(4096, { max: 1, zero: true });
  const first = await pool.acquire();
  const { fd } = first.buffer;
  first.release();
  const use = async (): Promise<void> => (await pool.acquire()).release();
  await race(fd, () => isIdleFor(use()));
  await use();
  const { inUse, idle, waiting, allocated } = pool.statistics();
  assert.deepEqual({ inUse, idle, waiting, allocated }, { inUse: 0, idle: 1, waiting: 0, allocated: 1 });
});

/** How others come to hold a buffer: what they have, and the object whose number nobody was told. */
const ways: Record<
  string,
  (buffer: DmaBuf) => { own: DmaBuf; others: DmaBuf } | Promise<{ own: DmaBuf; others: DmaBuf }>
> = {
  'was duplicated': (buffer) => ({ own: buffer, others: buffer.dup() }),
  'is a duplicate': (buffer) => ({ own: buffer.dup(), others: buffer }),
  'was imported': (buffer) => ({ own: DmaBuf.import(buffer.fd), others: buffer }),
  'was adopted': (buffer) => ({ own: DmaBuf.adopt(buffer.dup().release()), others: buffer }),
  'was copied from a process': (buffer) => ({ own: importFrom(process.pid, buffer.fd), others: buffer }),
  'was sent': async (buffer) => ({ own: buffer, others: await throughChannel(buffer) }),
  'was received': async (buffer) => ({ own: await throughChannel(buffer), others: buffer }),
};

async function throughChannel(buffer: DmaBuf): Promise<DmaBuf> {
  const [here, there] = DmaBufChannel.pair();
  using _ends = { [Symbol.dispose]: () => [here, there].forEach((end) => void end.close()) };
  await here.send('', [buffer]);
  const { handles: [received] = [] } = (await there.receive()) ?? {};
  return received as DmaBuf;
}

for (const [way, share] of Object.entries(ways)) {
  fenceTest(`read() of a buffer that ${way} does not stop the event loop`, async () => {
    const { own, others } = await share(allocateSync(4096));
    await race(others.fd, () => isIdle(() => own.read(new Uint8Array(8))), 40);
    closeHandles([own, others]);
  });
}
