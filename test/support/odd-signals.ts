import assert from 'node:assert/strict';
import { runInNewContext } from 'node:vm';
import { assertCode, unsound } from './expect.js';
import type { CallWith } from './option-rows.js';

type Listener = (event?: unknown) => void;

/** What every one of the signals below builds on: a polyfill's signal, which is no EventTarget of Node's. */
export class PolyfilledSignal {
  aborted = false;
  reason: unknown;
  readonly listeners = new Set<Listener>();

  addEventListener(_type: string, listener: Listener): void {
    this.listeners.add(listener);
  }

  removeEventListener(_type: string, listener: Listener): void {
    this.listeners.delete(listener);
  }

  abort(reason: unknown): void {
    this.aborted = true;
    this.reason = reason;
    for (const listener of this.listeners) listener({ type: 'abort' });
  }
}

/** The same of another realm: neither it nor what it is made of is an instance of anything here. */
export function foreignSignal(): PolyfilledSignal {
  return runInNewContext(`new (${PolyfilledSignal.toString()})`) as PolyfilledSignal;
}

/** Asserts that a call ends with the reason of a signal of another realm that has aborted, or has no option for a signal. */
export async function endsByForeignSignal(call: CallWith): Promise<void> {
  const signal = foreignSignal();
  const reason = new Error('elsewhere');
  signal.abort(reason);
  const result = Promise.resolve().then(() => call({ signal } as never));
  const error: unknown = await result.then(
    () => assert.fail('the signal was ignored'),
    (why: unknown) => why,
  );
  assert.equal(signal.listeners.size, 0);
  if (error === reason) return;
  assertCode(error, 'ERR_INVALID_ARG_VALUE');
  assert.match(error.message, /^There is no option 'signal' here/);
}

const thrown: Error = new Error('thrown by the signal');

function throws(): never {
  throw thrown;
}

function odd(members: object): AbortSignal {
  return unsound(Object.defineProperties(new PolyfilledSignal(), Object.getOwnPropertyDescriptors(members)));
}

/** Signals that reject a call at once, each a new one. */
export const endingSignals: Readonly<Record<string, () => AbortSignal>> = {
  'whose addEventListener throws': () => odd({ addEventListener: throws }),
  'whose addEventListener listens and throws': () =>
    odd({
      addEventListener(this: PolyfilledSignal, type: string, listener: Listener) {
        PolyfilledSignal.prototype.addEventListener.call(this, type, listener);
        throws();
      },
    }),
  'that calls back at once': () =>
    odd({ reason: thrown, addEventListener: (_type: string, listener: Listener) => listener() }),
  'that calls back twice at once': () =>
    odd({
      reason: thrown,
      addEventListener: (_type: string, listener: Listener) => {
        listener();
        listener();
      },
    }),
  'that calls back at once and throws': () =>
    odd({
      reason: thrown,
      addEventListener: (_type: string, listener: Listener) => {
        listener();
        throw new Error('afterwards');
      },
    }),
  'whose reason throws': () =>
    odd({
      get reason() {
        return throws();
      },
      addEventListener: (_type: string, listener: Listener) => listener(),
    }),
  'whose aborted throws': () =>
    odd({
      get aborted() {
        return throws();
      },
    }),
  'that has aborted when it is looked at again': () => {
    let looks = 0;
    return odd({
      reason: thrown,
      get aborted() {
        return looks++ > 1;
      },
    });
  },
};

/** Signals that are no reason to end a call, each a new one. */
export const quietSignals: Readonly<Record<string, () => AbortSignal>> = {
  'of a polyfill': () => odd({}),
  'that keeps its listeners': () => odd({ removeEventListener: throws }),
  'whose removeEventListener goes': () => {
    let looks = 0;
    return odd({
      get removeEventListener() {
        return looks++ === 0 ? () => {} : undefined;
      },
    });
  },
  'that calls back when it is left': () =>
    odd({ reason: 'too late', removeEventListener: (_type: string, listener: Listener) => listener() }),
  'that has a reason and has not aborted': () => odd({ reason: thrown }),
  'without throwIfAborted': () => odd({ throwIfAborted: undefined }),
};

/** What the signals throw, or give as their reason. */
export const thrownBySignals: Error = thrown;
