import { type TracingChannelSubscribers, tracingChannel } from 'node:diagnostics_channel';

/** The events of a tracing channel. */
export type TraceEvent = 'start' | 'end' | 'asyncStart' | 'asyncEnd' | 'error';

export const traceEvents: readonly TraceEvent[] = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'];

/** What those who subscribe were told: the events by name, and the context of each. */
export interface Traces {
  events: TraceEvent[];
  contexts: Record<string, unknown>[];
}

/** Subscribes to some events of a channel while `body` runs. */
export async function tracesOf(
  name: string,
  body: (told: Traces) => unknown,
  wanted: readonly TraceEvent[] = traceEvents,
): Promise<Traces> {
  const told: Traces = { events: [], contexts: [] };
  const subscribers = Object.fromEntries(
    wanted.map((event) => [
      event,
      (context: Record<string, unknown>) => {
        told.events.push(event);
        told.contexts.push(context);
      },
    ]),
  ) as unknown as TracingChannelSubscribers<Record<string, unknown>>;
  const channel = tracingChannel<unknown, Record<string, unknown>>(name);
  channel.subscribe(subscribers);
  try {
    await body(told);
  } finally {
    channel.unsubscribe(subscribers);
  }
  return told;
}

/** The order of a synchronous call's events, and of an asynchronous one's. */
export const order = {
  sync: ['start', 'end'],
  syncFailed: ['start', 'error', 'end'],
  async: ['start', 'end', 'asyncStart', 'asyncEnd'],
  asyncFailed: ['start', 'end', 'error', 'asyncStart', 'asyncEnd'],
} as const;
