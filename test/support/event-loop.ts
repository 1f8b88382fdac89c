import assert from 'node:assert/strict';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** One turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Turns the event loop `count` times: more than enough for whatever Node has put off. */
export async function turns(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}

/** Goes on as soon as `condition` holds; the event loop turns meanwhile. */
export async function until(condition: () => boolean, what: unknown = condition): Promise<void> {
  const patience = 5000;
  const limit = performance.now() + 60_000;
  for (let count = 0; !condition(); count++) {
    const isLate = count >= patience && performance.now() > limit;
    assert.ok(!isLate, `this did not come true in ${count} turns of the event loop: ${what}`);
    // Others may need the processor for it to come true: threads, processes.
    await (count < patience ? turn() : new Promise((resolve) => setTimeout(resolve, 5)));
  }
}

let collect: (() => void) | undefined;

export function collectGarbage(): void {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
  }
  collect();
}

/** Collects garbage until `condition` holds, at least once. */
export async function collectUntil(condition: () => boolean, what: unknown = condition): Promise<void> {
  for (let round = 0; round < 200; round++) {
    collectGarbage();
    await turn();
    if (condition()) return;
  }
  assert.fail(`still not so after 200 garbage collections: ${what}`);
}

/** An interval of 5 ms: ticks as long as nothing blocks the event loop. */
export function ticks(count: number): Promise<void> {
  return new Promise((resolve) => {
    let seen = 0;
    const interval = setInterval(() => {
      if (++seen < count) return;
      clearInterval(interval);
      resolve();
    }, 5);
  });
}

/** What has become of a promise so far. */
export function watch<T>(promise: Promise<T>): {
  state: 'pending' | 'fulfilled' | 'rejected';
  value?: unknown;
} {
  const watched: ReturnType<typeof watch> = { state: 'pending' };
  promise.then(
    (value) => Object.assign(watched, { state: 'fulfilled', value }),
    (error: unknown) => Object.assign(watched, { state: 'rejected', value: error }),
  );
  return watched;
}
