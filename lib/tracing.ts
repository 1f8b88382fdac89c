import diagnostics, { type TracingChannel } from 'node:diagnostics_channel';
import type { Access } from './check.js';

/**
 * What the tracing channel `dmabuf:wait` reports about a call that waits: `DmaBuf.ready()`, `SyncFile.wait()` or
 * `DmaBufPool.acquire()`. It reports each call, including those that need not wait.
 */
export interface WaitTrace {
  /** The method. */
  operation: 'ready' | 'wait' | 'acquire';
  /** For `'ready'`: the access for which the buffer's fences matter. */
  access?: Access;
  /** For `'ready'`: identifies the buffer on the whole machine. Absent if the kernel did not report it. */
  inode?: number;
  /** For `'ready'` and `'acquire'`: the buffer's size in bytes. */
  size?: number;
  /** For `'wait'`: the sync_file's name, which its driver or the process that merged it has chosen. */
  name?: string;
  /** The option `timeout` in milliseconds. */
  timeout?: number | undefined;
  /** What the call rejects with. */
  error?: unknown;
}

const nobody = { hasSubscribers: false };

/** The tracing channel with that name. In a runtime without tracing channels, an object without subscribers stands for it. */
export function tracingOf<Context extends object>(name: string): TracingChannel<unknown, Context> {
  const { tracingChannel } = diagnostics as Partial<typeof diagnostics>;
  const without = { ...nobody, start: nobody, end: nobody, error: nobody };
  return tracingChannel?.(name) ?? (without as unknown as TracingChannel<unknown, Context>);
}

/**
 * Whether there are subscribers to what a synchronous call publishes. These three checks cost next to nothing once
 * compiled; `hasSubscribers` of all five and one more function call would cost 2 % of a CPU access.
 */
export function isTracedSync<Context extends object>({
  start,
  end,
  error,
}: TracingChannel<unknown, Context>): boolean {
  return start.hasSubscribers || end.hasSubscribers || error.hasSubscribers;
}

/**
 * Makes an asynchronous call for the subscribers. Whatever it throws becomes a rejection, so that every trace has an
 * `asyncEnd`.
 */
export function traceAsync<Context extends object, T>(
  channel: TracingChannel<unknown, Context>,
  context: Context,
  call: () => T | Promise<T>,
): Promise<T> {
  return channel.tracePromise(async () => await call(), context);
}

/** The channel `dmabuf:wait`. */
export const waitTracing: TracingChannel<unknown, WaitTrace> = tracingOf('dmabuf:wait');
