import diagnostics, { type TracingChannel } from 'node:diagnostics_channel';
import type { Access } from './check.js';

/**
 * What the tracing channel `dmabuf:wait` tells of a call that waits: `DmaBuf.ready()`, `SyncFile.wait()` or
 * `DmaBufPool.acquire()`. It tells of each call, also of one that is over at once.
 */
export interface WaitTrace {
  /** The method. */
  operation: 'ready' | 'wait' | 'acquire';
  /** Of `'ready'`: the access for which the buffer's fences matter. */
  access?: Access;
  /** Of `'ready'`: identifies the buffer on the whole machine. Absent where the kernel could not tell it. */
  inode?: number;
  /** Of `'ready'` and `'acquire'`: the buffer's size in bytes. */
  size?: number;
  /** Of `'wait'`: the sync_file's name, which a driver, or anybody who merged it, has chosen. */
  name?: string;
  /** The option `timeout` in milliseconds. */
  timeout?: number | undefined;
  /** What the call rejects with. */
  error?: unknown;
}

const nobody = { hasSubscribers: false };

/** The tracing channel of that name. A runtime without them has one to which nobody subscribes. */
export function tracingOf<Context extends object>(name: string): TracingChannel<unknown, Context> {
  const { tracingChannel } = diagnostics as Partial<typeof diagnostics>;
  const without = { ...nobody, start: nobody, end: nobody, error: nobody };
  return tracingChannel?.(name) ?? (without as unknown as TracingChannel<unknown, Context>);
}

/**
 * Whether anybody subscribes to what a synchronous call publishes. The compiler makes next to nothing of these three; of
 * `hasSubscribers` of all five, and of a function more on the way, it makes 2 % of a CPU access.
 */
export function isTracedSync<Context extends object>({
  start,
  end,
  error,
}: TracingChannel<unknown, Context>): boolean {
  return start.hasSubscribers || end.hasSubscribers || error.hasSubscribers;
}

/** Makes an asynchronous call for those who subscribe. Whatever it throws rejects, so that every trace has an `asyncEnd`. */
export function traceAsync<Context extends object, T>(
  channel: TracingChannel<unknown, Context>,
  context: Context,
  call: () => T | Promise<T>,
): Promise<T> {
  return channel.tracePromise(async () => await call(), context);
}

/** The channel `dmabuf:wait`. */
export const waitTracing: TracingChannel<unknown, WaitTrace> = tracingOf('dmabuf:wait');
