import { onAbort, throwIfAborted } from '../abort.js';
import { checkDuration, checkSignal, readOptions } from '../check.js';
import { atCallSite, callSite, DmaBufError } from '../errors.js';
import { OwnPromise } from '../intrinsics.js';
import type { Snapshot } from './model.js';
import { type CheckedOptions, checkSnapshotOptions, optionNames, type SnapshotOptions } from './options.js';
import { take } from './snapshot.js';

/** When to take snapshots, and of what. */
export interface WatchOptions extends SnapshotOptions {
  /** Milliseconds from the end of one snapshot to the start of the next, possibly a fraction; 1 000 by default. */
  interval?: number | undefined;
  /** When it aborts, the iteration throws its reason. */
  signal?: AbortSignal | undefined;
}

/**
 * Takes a snapshot now, and another one each time the interval after the previous one has passed. `return()`, which
 * `break` and `await using` also call, and `throw()` end a pause at once.
 *
 * ```js
 * for await (const { total } of watch({ interval: 5000 })) console.log(total.size);
 * ```
 *
 * @throws what `snapshot()` throws, and the signal's reason
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; `ERR_INVALID_ARG_VALUE` for an option that does not exist
 * @throws RangeError `ERR_OUT_OF_RANGE`
 */
export function watch(options?: WatchOptions): AsyncGenerator<Snapshot, void, undefined> {
  const { interval = 1000, signal, ...rest } = readOptions(options, [...optionNames, 'interval', 'signal']);
  const what = checkSnapshotOptions(rest);
  const pause: Pause = {
    length: checkDuration(interval, 'option interval'),
    signal: checkSignal(signal),
    isOver: false,
    wake: () => {},
  };
  const generator = snapshots(what, pause, callSite(watch));
  // The generator itself would do this only after the pause.
  const endPause = (): void => {
    pause.isOver = true;
    pause.wake();
  };
  const end = generator.return.bind(generator);
  generator.return = (value) => {
    endPause();
    return end(value);
  };
  const fail = generator.throw.bind(generator);
  generator.throw = (error) => {
    endPause();
    return fail(error);
  };
  // Node.js has this on all asynchronous iterators since 24.
  generator[Symbol.asyncDispose] = async () => {
    await generator.return();
  };
  return generator;
}

interface Pause {
  /** Milliseconds. */
  length: number;
  signal: AbortSignal | undefined;
  isOver: boolean;
  wake: () => void;
}

function sleep(pause: Pause): Promise<void> {
  const { length, signal } = pause;
  return new OwnPromise((resolve, reject) => {
    let stop = (): void => {};
    const timer = setTimeout(() => {
      stop();
      resolve();
    }, length);
    pause.wake = () => {
      clearTimeout(timer);
      stop();
      resolve();
    };
    if (signal === undefined) return;
    try {
      stop = onAbort(signal, (reason) => {
        clearTimeout(timer);
        stop();
        reject(reason);
      });
    } catch (error) {
      clearTimeout(timer);
      reject(error);
    }
  });
}

async function* snapshots(
  what: CheckedOptions,
  pause: Pause,
  site: ReturnType<typeof callSite>,
): AsyncGenerator<Snapshot, void, undefined> {
  while (!pause.isOver) {
    throwIfAborted(pause.signal);
    let taken: Snapshot;
    try {
      taken = await take(what);
    } catch (error) {
      throw error instanceof DmaBufError ? atCallSite(error, site) : error;
    }
    throwIfAborted(pause.signal);
    yield taken;
    if (!pause.isOver) await sleep(pause);
  }
}
