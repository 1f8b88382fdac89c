import { setTimeout as sleep } from 'node:timers/promises';
import { checkInteger, invalidType } from '../check.js';
import { checkSnapshotOptions, type Snapshot, type SnapshotOptions, snapshot } from './snapshot.js';

/** When to look, and at what. */
export interface WatchOptions extends SnapshotOptions {
  /** Milliseconds from the end of one snapshot to the start of the next; 1 000 by default. */
  interval?: number | undefined;
  /** When it aborts, the iteration throws its reason. */
  signal?: AbortSignal | undefined;
}

/**
 * A snapshot now, and another one each time the interval has passed and the last one has been taken.
 *
 * ```js
 * for await (const { total } of watch({ interval: 5000 })) console.log(total.size);
 * ```
 *
 * @throws what `snapshot()` throws, and the signal's reason
 * @throws TypeError `ERR_INVALID_ARG_TYPE`
 * @throws RangeError `ERR_OUT_OF_RANGE`
 */
export function watch(options: WatchOptions = {}): AsyncGenerator<Snapshot, void, undefined> {
  checkSnapshotOptions(options);
  const { interval = 1000, signal, ...what } = options;
  const pause = checkInteger(interval, 'option interval', 0, 2 ** 31 - 1);
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw invalidType('option signal', 'an AbortSignal', signal);
  }
  return snapshots(what, pause, signal);
}

async function* snapshots(
  what: SnapshotOptions,
  pause: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Snapshot, void, undefined> {
  for (;;) {
    signal?.throwIfAborted();
    const taken = await snapshot(what);
    signal?.throwIfAborted();
    yield taken;
    try {
      await sleep(pause, undefined, signal && { signal });
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    }
  }
}
