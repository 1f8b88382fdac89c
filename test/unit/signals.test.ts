import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DmaBufChannel, type DmaBufServer, type WaitOptions } from 'dmabuf';
import { watch } from 'dmabuf/inspect';
import { abstractName } from '../support/abstract-name.js';
import { fill } from '../support/channels.js';
import { leavesNothing } from '../support/descriptors.js';
import { turns, watch as watched } from '../support/event-loop.js';
import { rejectsCode, rejectsWith, unsound } from '../support/expect.js';
import {
  endingSignals,
  endsByForeignSignal,
  foreignSignal,
  PolyfilledSignal,
  quietSignals,
  thrownBySignals,
} from '../support/odd-signals.js';
import { type CallWith, optionRows } from '../support/option-rows.js';

/** Calls that wait until the fixture's other end does something, and that. */
const calls: Record<string, (fixture: Fixture, options: WaitOptions) => Promise<unknown>> = {
  receive: ({ here }, options) => here.receive(options),
  accept: async ({ server }, options) => (await server.accept(options)).close(),
  send: ({ here }, options) => here.send('x', [], options),
  connect: async ({ path }, options) => (await DmaBufChannel.connect(path, options)).close(),
};

interface Fixture {
  here: DmaBufChannel;
  there: DmaBufChannel;
  server: DmaBufServer;
  path: string;
}

async function withFixture(body: (fixture: Fixture) => Promise<void>): Promise<void> {
  const path = abstractName();
  const [here, there] = DmaBufChannel.pair();
  const server = DmaBufChannel.listen(path);
  try {
    await body({ here, there, server, path });
  } finally {
    here.close();
    there.close();
    server.close();
    await turns(); // What was given up is closed by then.
  }
}

for (const [name, call] of Object.entries(calls)) {
  describe(`${name} with a signal`, () => {
    for (const [what, make] of Object.entries(quietSignals)) {
      test(`${what} does what it does without`, async () => {
        await leavesNothing(() =>
          withFixture(async (fixture) => {
            const outcome = call(fixture, { signal: make() });
            await fixture.there.send('y');
            (await DmaBufChannel.connect(fixture.path)).close();
            await outcome;
          }),
        );
      });
    }
  });
}

for (const name of ['receive', 'accept'] as const) {
  const call = calls[name] as (typeof calls)[string];
  describe(`a pending ${name} with a signal`, () => {
    for (const [what, make] of Object.entries(endingSignals)) {
      test(`${what} rejects with what the signal says`, async () => {
        await leavesNothing(() =>
          withFixture((fixture) => rejectsWith(call(fixture, { signal: make() }), thrownBySignals)),
        );
      });
    }

    test('of another realm rejects when it aborts', async () => {
      await withFixture(async (fixture) => {
        const signal = foreignSignal();
        const outcome = call(fixture, { signal: unsound(signal) });
        signal.abort('elsewhere');
        await rejectsWith(outcome, 'elsewhere');
        assert.equal(signal.listeners.size, 0);
      });
    });

    test('without a reason rejects with an AbortError', async () => {
      await withFixture(async (fixture) => {
        const signal = new PolyfilledSignal();
        const outcome = call(fixture, { signal: unsound(signal) });
        signal.abort(undefined);
        await assert.rejects(outcome, { name: 'AbortError' });
      });
    });

    test('that closes the object when it is left settles once', async () => {
      await withFixture(async (fixture) => {
        const signal = new PolyfilledSignal();
        signal.removeEventListener = () => {
          fixture.here.close();
          fixture.server.close();
        };
        const outcome = call(fixture, { signal: unsound(signal) });
        signal.abort('mine');
        await rejectsWith(outcome, 'mine');
      });
    });

    test('can end by half a millisecond', async () => {
      await withFixture((fixture) =>
        rejectsCode(() => call(fixture, { timeout: 0.5 }), 'ETIMEDOUT').then(({ message }) =>
          assert.match(message, /0\.5 ms/),
        ),
      );
    });

    test('is not over before a fraction of a millisecond is', async (t) => {
      t.mock.timers.enable({ apis: ['setTimeout'] });
      await withFixture(async (fixture) => {
        const outcome = watched(call(fixture, { timeout: 10.5 }));
        t.mock.timers.tick(10);
        await turns(1);
        assert.equal(outcome.state, 'pending');
        t.mock.timers.tick(1);
        await turns(1);
        assert.equal(outcome.state, 'rejected');
      });
    });
  });
}

test('a signal is asked for its members in a pending call, and never again once that is over', async () => {
  await withFixture(async ({ here, there }) => {
    const signal = new PolyfilledSignal();
    const outcome = here.receive({ signal: unsound(signal) });
    assert.equal(signal.listeners.size, 1);
    await there.send('x');
    await outcome;
    assert.equal(signal.listeners.size, 0);
    signal.abort('too late');
  });
});

/** Every function with options; `watch()` looks at its own when it is asked for the first snapshot. */
const rows: Readonly<Record<string, CallWith>> = { ...optionRows, watch: (options) => watch(options).next() };

describe('a signal of another realm that has aborted ends, unless there is no such option,', () => {
  for (const [name, call] of Object.entries(rows))
    test(name, () => leavesNothing(() => endsByForeignSignal(call)));
});

test('a signal of another realm ends a pending send', async () => {
  await withFixture(async ({ here }) => {
    await fill(here);
    const signal = foreignSignal();
    const outcome = here.send('x', [], { signal: unsound(signal) });
    signal.abort('elsewhere');
    await rejectsWith(outcome, 'elsewhere');
    assert.equal(signal.listeners.size, 0);
  });
});
