import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { tracingChannel } from 'node:diagnostics_channel';
import { describe, test } from 'node:test';
import { DmaBufChannel, FdStream } from 'dmabuf';
import { leavesNothing } from '../support/descriptors.js';
import { assertCode, rejectsCode, unsound } from '../support/expect.js';
import { runProgram } from '../support/programs.js';
import { order, type Traces, traceEvents, tracesOf } from '../support/traces.js';

interface Report {
  received: number;
  code: string;
  uncaught: string[];
}

const reportWhere = (what: string): Report =>
  runProgram('traces', { env: { ...process.env, DMABUF_TEST_WHAT: what } });

async function withPair(body: (here: DmaBufChannel, there: DmaBufChannel) => unknown): Promise<void> {
  const [here, there] = DmaBufChannel.pair();
  try {
    await body(here, there);
  } finally {
    here.close();
    there.close();
  }
}

/** What is told of messages while `body` runs. */
async function sends(
  body: (here: DmaBufChannel, there: DmaBufChannel, told: Traces) => unknown,
  wanted = traceEvents,
): Promise<Traces> {
  return await tracesOf('dmabuf:send', (told) => withPair((here, there) => body(here, there, told)), wanted);
}

describe('dmabuf:send', () => {
  test('tells what is sent, to whom, and that it was', async () => {
    const { events, contexts } = await sends(async (here) => await here.send('äb', [0]));
    assert.deepEqual(events, order.async);
    const [{ peer, ...context } = {}] = contexts;
    assert.deepEqual(context, { operation: 'send', size: 3, handles: 1, inodes: [], result: undefined });
    assert.deepEqual(peer, { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() });
  });

  test('reports what send() sends on a stream, and not what write() sends', async () => {
    const [here, there] = FdStream.pair();
    const { events, contexts } = await tracesOf('dmabuf:send', async () => {
      await new Promise<void>((resolve) => void here.write('written', () => resolve()));
      await here.send('äb', [0]);
      await here.send('');
    });
    assert.deepEqual(events, [...order.async, ...order.async]);
    const [{ peer, ...context } = {}] = contexts;
    assert.deepEqual(context, { operation: 'send', size: 3, handles: 1, inodes: [], result: undefined });
    assert.equal((peer as { pid?: number }).pid, process.pid);
    assert.equal(contexts[order.async.length]?.size, 0);
    for (const stream of [here, there]) stream.destroy();
  });

  test('reports a whole call by one object, to which subscribers may add', async () => {
    const { contexts } = await sends(async (here, _there, told) => {
      const sent = here.send('x');
      (told.contexts[0] as { span?: string }).span = 'mine';
      await sent;
    });
    assert.equal(new Set(contexts).size, 1);
    assert.equal(contexts[0]?.span, 'mine');
  });

  test('tells the error that the promise rejects with', async () => {
    let thrown: unknown;
    const { events, contexts } = await sends(async (here, there) => {
      there.close();
      thrown = await rejectsCode(() => here.send('x'), 'EPIPE');
    });
    assert.deepEqual(events, order.asyncFailed);
    assert.equal(contexts[0]?.error, thrown);
  });

  test('tells nothing of what was refused for its arguments, its signal or its closed object', async () => {
    const { events } = await sends(async (here) => {
      await rejectsCode(() => here.send(unsound(7)), 'ERR_INVALID_ARG_TYPE');
      await assert.rejects(here.send('x', [], { signal: AbortSignal.abort() }), { name: 'AbortError' });
      here.close();
      await rejectsCode(() => here.send('x'), 'ERR_DMABUF_CLOSED');
    });
    assert.deepEqual(events, []);
  });

  for (const event of ['start', 'end', 'asyncStart', 'asyncEnd'] as const) {
    test(`informs a subscriber to ${event} alone`, async () => {
      const { events } = await sends(async (here) => await here.send('x'), [event]);
      assert.deepEqual(events, [event]);
    });
  }

  test('informs a subscriber to errors alone', async () => {
    const body = async (here: DmaBufChannel, there: DmaBufChannel): Promise<void> => {
      await here.send('x');
      there.close();
      await rejectsCode(() => here.send('x'), 'EPIPE');
    };
    const { events, contexts } = await sends(body, ['error']);
    assert.deepEqual(events, ['error']);
    const [{ error } = {}] = contexts;
    assertCode(error, 'EPIPE');
  });

  test('tells nobody any more once all have left, not even how a call ends that waits', async () => {
    await leavesNothing(async () => {
      const [here, there] = DmaBufChannel.pair();
      const told = await tracesOf('dmabuf:send', () => {});
      await here.send('x');
      await there.receive();
      here.close();
      there.close();
      assert.deepEqual(told.events, []);
      assert.equal(tracingChannel('dmabuf:send').hasSubscribers, false);
    });
  });

  test('runs a call in the context that is bound to it', async () => {
    const storage = new AsyncLocalStorage<string>();
    const { start, end } = tracingChannel<string, Record<string, unknown>>('dmabuf:send');
    let seen: unknown;
    const look = (): void => {
      seen = storage.getStore();
    };
    start.bindStore(storage, ({ size }) => `${size} bytes`);
    end.subscribe(look);
    try {
      await withPair((here) => here.send('xyz'));
    } finally {
      end.unsubscribe(look);
      start.unbindStore(storage);
    }
    assert.equal(seen, '3 bytes');
  });

  test('rejects a message whose channel a subscriber closes', async () => {
    const { start } = tracingChannel('dmabuf:send');
    await withPair(async (here) => {
      const close = (): void => here.close();
      start.subscribe(close);
      try {
        await rejectsCode(() => here.send('x'), 'ERR_DMABUF_CLOSED');
      } finally {
        start.unsubscribe(close);
      }
    });
  });
});

test('an error of a subscriber is uncaught, and changes nothing for the call', () => {
  const report = reportWhere('throws');
  assert.deepEqual({ received: report.received, code: report.code }, { received: 1, code: 'EPIPE' });
  const expected = [...order.async, ...order.asyncFailed].map((event) => `thrown at ${event}`);
  assert.deepEqual(report.uncaught.sort(), expected.sort());
});

test('a runtime without tracing channels has all the rest', () => {
  assert.deepEqual(reportWhere('lacks'), { received: 1, code: 'EPIPE', uncaught: [] });
});
