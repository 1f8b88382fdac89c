// Signals that lie, throw or come from another realm, and fractions of milliseconds, in every call that waits for buffers,
// fences and memory; test/unit/signals.test.ts has those of channels, and what needs no buffer.

import assert from 'node:assert/strict';
import {
  allocate,
  allocateSync,
  type DmaBuf,
  DmaBufChannel,
  DmaBufPool,
  DmaHeap,
  openHandles,
  SyncFile,
  type WaitOptions,
} from 'dmabuf';
import { abstractName } from '../../../support/abstract-name.js';
import { openFds } from '../../../support/descriptors.js';
import { turns, until } from '../../../support/event-loop.js';
import { rejectsCode, rejectsWith, unsound } from '../../../support/expect.js';
import { addFence, fenceTest } from '../../../support/fences.js';
import { kernelTest } from '../../../support/kernel-test.js';
import {
  endingSignals,
  endsByForeignSignal,
  foreignSignal,
  quietSignals,
  thrownBySignals,
} from '../../../support/odd-signals.js';
import { bufferOptionRows } from '../../../support/option-rows.js';
import { ForeignSocket } from '../../../support/sockets.js';

for (const [name, call] of Object.entries(bufferOptionRows)) {
  kernelTest(
    `${name} ends by a signal of another realm that has aborted, or has no such option`,
    async () => {
      using buffer = allocateSync(4096);
      using file = buffer.exportSyncFile('read');
      await endsByForeignSignal((options) => call(buffer, options, file));
    },
  );
}

interface Fixture {
  /** A device writes it. */
  buffer: DmaBuf;
  /** Has that device's fence. */
  file: SyncFile;
  heap: DmaHeap;
}

type Call = (fixture: Fixture, options: WaitOptions) => Promise<unknown>;

/** Calls that wait until the device is done. */
const waiting: Record<string, Call> = {
  'DmaBuf.ready': ({ buffer }, options) => buffer.ready('read', options),
  'DmaBuf.cpuAccess': async ({ buffer }, options) => (await buffer.cpuAccess('read', options)).end(),
  'DmaBuf.withCpuAccess': ({ buffer }, options) => buffer.withCpuAccess('read', () => {}, options),
  'SyncFile.wait': ({ file }, options) => file.wait(options),
};

/** Calls that a thread works on: they have no `timeout`, or need none. */
const working: Record<string, Call> = {
  'SyncFile.mergeAsync': async ({ file }, options) =>
    (await SyncFile.mergeAsync('m', [file, file], options)).close(),
  allocate: async (_fixture, options) => (await allocate(4096, options)).close(),
  'DmaHeap.allocate': async ({ heap }, options) => (await heap.allocate(4096, options)).close(),
};

/** Ends with what the device did. Whatever came after a call was given up is closed by then. */
async function withFixture(body: (fixture: Fixture, signal: () => void) => Promise<void>): Promise<void> {
  using heap = DmaHeap.open('system');
  using buffer = allocateSync(4096);
  using fence = addFence(buffer, 'write');
  using file = buffer.exportSyncFile('read');
  const handles = openHandles().length;
  const fds = openFds().size;
  await body({ buffer, file, heap }, () => fence.signal());
  await until(() => openHandles().length === handles && openFds().size === fds);
}

for (const [name, call] of Object.entries({ ...waiting, ...working })) {
  for (const [what, make] of Object.entries(endingSignals)) {
    fenceTest(`${name} with a signal ${what} rejects with what the signal says`, () =>
      withFixture((fixture) => rejectsWith(call(fixture, { signal: make() }), thrownBySignals)),
    );
  }

  for (const [what, make] of Object.entries(quietSignals)) {
    fenceTest(`${name} with a signal ${what} does what it does without`, () =>
      withFixture(async (fixture, signal) => {
        const outcome = call(fixture, { signal: make() });
        signal();
        await outcome;
      }),
    );
  }

  fenceTest(`${name} with a signal of another realm rejects when it aborts`, () =>
    withFixture(async (fixture) => {
      const signal = foreignSignal();
      const outcome = call(fixture, { signal: unsound(signal) });
      signal.abort('elsewhere');
      await rejectsWith(outcome, 'elsewhere');
      assert.equal(signal.listeners.size, 0);
    }),
  );
}

for (const [name, call] of Object.entries(waiting)) {
  fenceTest(`${name} can end by half a millisecond`, () =>
    withFixture(async (fixture) => {
      const { message } = await rejectsCode(() => call(fixture, { timeout: 0.5 }), 'ETIMEDOUT');
      assert.match(message, /0\.5 ms/);
    }),
  );
}

kernelTest('DmaBufPool.acquire with a signal of another realm rejects when it aborts', async () => {
  using pool = new DmaBufPool(4096, { max: 1 });
  using _loan = await pool.acquire();
  const signal = foreignSignal();
  const outcome = pool.acquire({ signal: unsound(signal) });
  signal.abort('elsewhere');
  await rejectsWith(outcome, 'elsewhere');
  assert.equal(signal.listeners.size, 0);
});

kernelTest('DmaBufChannel.connect with a signal of another realm rejects when it aborts', async () => {
  const name = abstractName();
  using _server = ForeignSocket.serve(name, 'seqpacket', 0);
  using _first = ForeignSocket.connect(name);
  const signal = foreignSignal();
  const outcome = DmaBufChannel.connect(name, { signal: unsound(signal) });
  await turns();
  signal.abort('elsewhere');
  await rejectsWith(outcome, 'elsewhere');
  assert.equal(signal.listeners.size, 0);
});
