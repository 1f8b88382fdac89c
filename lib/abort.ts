// Signals are the caller's objects. A signal of another realm or of a polyfill may throw from any member, call a listener
// immediately, twice or never, and give another answer each time. A wait must settle in any case.

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
    // Later calls of the listener do nothing.
  }
}

/**
 * Calls `abort` once, with the reason, when the signal aborts or already has. Returns a function that stops listening,
 * which throws nothing.
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
    // It may have aborted since it was checked, and does not notify a second time.
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

/** A signal of this realm that aborts when the first of several signals does, with the same reason, until it is released. */
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
