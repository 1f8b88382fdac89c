import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { allocateSync, type DmaBuf, type WaitOptions } from 'dmabuf';
import { openFds } from '../../support/descriptors.js';
import { turns } from '../../support/event-loop.js';
import { assertCode } from '../../support/expect.js';
import { addFence, fenceTest } from '../../support/fences.js';

// 1 000 rounds of every way in which a wait can end, while it is pending and at the moment when it settles.

const rounds = 1000;

type Outcome = 'fulfilled' | 'aborted' | 'ETIMEDOUT' | 'ERR_DMABUF_CLOSED';

/** One wait: of the buffer, of CPU access to it, or of its fences on their own, in turn. */
function start(buffer: DmaBuf, number: number, options: WaitOptions = {}): Promise<void> {
  if (number % 3 === 0) return buffer.ready('read', options);
  if (number % 3 === 1) return buffer.cpuAccess('write', options).then((access) => access.end());
  const file = buffer.exportSyncFile('write');
  return file.wait(options).finally(() => file.close());
}

async function outcomeOf(wait: Promise<void>): Promise<Outcome> {
  const [outcome] = await Promise.allSettled([wait]);
  if (outcome.status === 'fulfilled') return 'fulfilled';
  if (outcome.reason === 'aborted') return 'aborted';
  const { code } = outcome.reason as { code: Outcome };
  assertCode(outcome.reason, code);
  return code;
}

/** Runs the rounds, a few at a time, on buffers that are used again, and checks that nothing is left behind. */
async function inRounds(round: (buffer: DmaBuf, number: number) => Promise<void>): Promise<void> {
  const before = openFds().size;
  let next = 0;
  const lane = async (): Promise<void> => {
    let buffer = allocateSync(4096);
    while (next < rounds) {
      if (buffer.closed) buffer = allocateSync(4096);
      await round(buffer, next++);
    }
    buffer.close();
  };
  await Promise.all(Array.from({ length: 6 }, lane));
  await turns();
  assert.equal(openFds().size, before);
}

fenceTest('1 000 rounds: aborted while pending', () =>
  inRounds(async (buffer, number) => {
    using _fence = addFence(buffer, 'write');
    const controller = new AbortController();
    const outcome = outcomeOf(start(buffer, number, { signal: controller.signal }));
    controller.abort('aborted');
    assert.equal(await outcome, 'aborted');
  }),
);

fenceTest('1 000 rounds: signalled and aborted in one turn, in both orders', () =>
  inRounds(async (buffer, number) => {
    using fence = addFence(buffer, 'write');
    const controller = new AbortController();
    const outcome = outcomeOf(start(buffer, number, { signal: controller.signal }));
    if (number % 2 === 0) fence.signal();
    controller.abort('aborted');
    if (number % 2 === 1) fence.signal();
    assert.equal(await outcome, 'aborted');
    assert.equal(buffer.isReady('write'), true);
  }),
);

fenceTest('1 000 rounds: one that is over aborts the other', () =>
  inRounds(async (buffer, number) => {
    using fence = addFence(buffer, 'write');
    const controller = new AbortController();
    const outcome = outcomeOf(start(buffer, number, { signal: controller.signal }));
    const first = buffer.ready('read').then(() => controller.abort('aborted'));
    fence.signal();
    await first;
    // Whichever the event loop came to first. None is lost.
    assert.match(await outcome, /^(fulfilled|aborted)$/);
  }),
);

fenceTest('1 000 rounds: timed out while pending', () =>
  inRounds(async (buffer, number) => {
    using _fence = addFence(buffer, 'write');
    assert.equal(await outcomeOf(start(buffer, number, { timeout: 0 })), 'ETIMEDOUT');
  }),
);

fenceTest('1 000 rounds: signalled and timed out in one turn, in both orders', () =>
  inRounds(async (buffer, number) => {
    using fence = addFence(buffer, 'write');
    let signalled = false;
    const signal = (): void => {
      fence.signal();
      signalled = true;
    };
    if (number % 2 === 0) setTimeout(signal, 1);
    const wait = outcomeOf(start(buffer, number, { timeout: 1 }));
    if (number % 2 === 1) setTimeout(signal, 1);
    const outcome = await wait;
    assert.match(outcome, /^(fulfilled|ETIMEDOUT)$/);
    if (outcome === 'fulfilled') assert.equal(signalled, true);
    while (!signalled) await turns(1);
  }),
);

for (const method of ['close', 'release'] as const) {
  fenceTest(`1 000 rounds: ${method}d while pending`, () =>
    inRounds(async (buffer, number) => {
      using _fence = addFence(buffer, 'write');
      const outcome = outcomeOf(number % 2 === 0 ? buffer.ready('read') : start(buffer, 1));
      const fd = buffer[method]();
      if (fd !== undefined) closeSync(fd);
      assert.equal(await outcome, 'ERR_DMABUF_CLOSED');
    }),
  );
}

fenceTest('1 000 rounds: signalled and closed in one turn, in both orders', () =>
  inRounds(async (buffer, number) => {
    using fence = addFence(buffer, 'write');
    const file = buffer.exportSyncFile('write');
    const outcome = outcomeOf(number % 3 < 2 ? start(buffer, number % 3) : file.wait());
    if (number % 2 === 0) fence.signal();
    buffer.close();
    file.close();
    if (number % 2 === 1) fence.signal();
    assert.equal(await outcome, 'ERR_DMABUF_CLOSED');
  }),
);

fenceTest('1 000 rounds: the one that is over first closes the buffer', () =>
  inRounds(async (buffer, number) => {
    using fence = addFence(buffer, 'write');
    const outcome = outcomeOf(start(buffer, number % 2));
    const closing = buffer.ready('read').then(() => buffer.close());
    fence.signal();
    await closing;
    assert.match(await outcome, /^(fulfilled|ERR_DMABUF_CLOSED)$/);
  }),
);
