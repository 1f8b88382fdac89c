// Signals are the caller's objects: of another realm or a polyfill, they may throw from any member, call a listener at
// once, twice or never, and say something else each time they are asked. A wait must settle in any case.

function reasonOf(signal: AbortSignal): unknown {
  // The first polyfills had no reason.
  return signal.reason ?? new DOMException('This operation was aborted', 'AbortError');
}

/** Throws the signal's reason when it has aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw reasonOf(signal);
}

function unlisten(signal: AbortSignal, listener: () => void): void {
  try {
    signal.removeEventListener('abort', listener);
  } catch {
    // What it still calls is deaf.
  }
}

/**
 * Calls `abort` once, with the reason, when the signal aborts or already has. Returns how to stop listening, which throws
 * nothing.
 *
 * @throws whatever the signal does; it is not listened to then
 */
export function onAbort(signal: AbortSignal, abort: (reason: unknown) => void): () => void {
  let isOver = false;
  const listener = (): void => {
    if (isOver) return;
    isOver = true;
    let reason: unknown;
    try {
      reason = reasonOf(signal);
    } catch (error) {
      reason = error;
    }
    abort(reason);
  };
  try {
    signal.addEventListener('abort', listener, { once: true });
    // It may have aborted since it was looked at, and tells nobody a second time.
    if (signal.aborted === true) listener();
  } catch (error) {
    if (isOver) return () => {};
    isOver = true;
    unlisten(signal, listener);
    throw error;
  }
  return () => {
    isOver = true;
    unlisten(signal, listener);
  };
}

/** A signal of this realm's own that aborts as the first of several does, and with its reason, until it is let go of. */
export function joinSignals(...signals: (AbortSignal | undefined)[]): { signal: AbortSignal; leave(): void } {
  const controller = new AbortController();
  const stops: (() => void)[] = [];
  const leave = (): void => {
    for (const stop of stops.splice(0)) stop();
  };
  try {
    for (const signal of signals) {
      if (signal !== undefined) stops.push(onAbort(signal, (reason) => controller.abort(reason)));
    }
  } catch (error) {
    leave();
    throw error;
  }
  return { signal: controller.signal, leave };
}
