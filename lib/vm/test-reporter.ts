// A reporter of node:test that runs in the guest: passes the events on to the host (guest-tests.ts), a line each.

import { writeSync } from 'node:fs';
import { inspect, types } from 'node:util';
import { serialize } from 'node:v8';

/** The descriptor of the events' pipe, which the runner's shell has opened. */
const EVENTS_FD = 3;

/** What is passed on of an event; the names and what they mean are node:test's own. */
export interface GuestEvent {
  type: 'test:dequeue' | 'test:start' | 'test:complete' | 'test:pass' | 'test:fail' | 'test:diagnostic';
  name: string;
  nesting: number;
  file: string | undefined;
  line: number | undefined;
  column: number | undefined;
  /** Which test it is, and in which other one; Node.js 24 and later say so. */
  testId: number | undefined;
  parentId: number | undefined;
  skip: string | boolean | undefined;
  todo: string | boolean | undefined;
  message: string | undefined;
  failure: { type: string | undefined; cause: GuestValue } | undefined;
}

/** Something thrown, in parts that can be serialised. */
export type GuestValue =
  | { thrown: unknown }
  | {
      name: string;
      message: string;
      stack: string | undefined;
      /** What it has besides, such as `code`, `actual` and `expected`. */
      properties: Record<string, unknown>;
      cause: GuestValue | undefined;
      errors: GuestValue[] | undefined;
    };

const TYPES = new Set(
  ['dequeue', 'start', 'complete', 'pass', 'fail', 'diagnostic'].map((name) => `test:${name}`),
);

interface Source extends AsyncIterable<{ type: string; data: Record<string, unknown> }> {}

// biome-ignore lint/style/noDefaultExport: node:test wants it so.
export default async function* report(source: Source): AsyncGenerator<string, void, undefined> {
  for await (const { type, data } of source) {
    if (TYPES.has(type))
      write(`event ${serialize(eventOf(type as GuestEvent['type'], data)).toString('base64')}\n`);
  }
  yield '';
}

/** At once: whatever comes next may end this process. */
function write(line: string): void {
  let rest = Buffer.from(line);
  while (rest.length > 0) rest = rest.subarray(writeSync(EVENTS_FD, rest));
}

function eventOf(type: GuestEvent['type'], data: Record<string, unknown>): GuestEvent {
  const { name, nesting, file, line, column, testId, parentId, skip, todo, message } =
    data as unknown as GuestEvent;
  const error = (data.details as { error?: Error & { failureType?: string } } | undefined)?.error;
  const failure =
    error === undefined ? undefined : { type: error.failureType, cause: partsOf(error.cause ?? error, 0) };
  return { type, name, nesting, file, line, column, testId, parentId, skip, todo, message, failure };
}

const DEEPEST = 8;

function partsOf(value: unknown, depth: number): GuestValue {
  if (!types.isNativeError(value) || depth > DEEPEST) return { thrown: copyOf(value) };
  const { cause, errors, name, message, stack, ...properties } = value as Error & { errors?: unknown };
  return {
    name: String(value.name),
    message: String(value.message),
    stack: typeof value.stack === 'string' ? value.stack : undefined,
    properties: Object.fromEntries(Object.entries(properties).map(([key, one]) => [key, copyOf(one)])),
    cause: value.cause === undefined ? undefined : partsOf(value.cause, depth + 1),
    errors: Array.isArray(errors) ? errors.map((one) => partsOf(one, depth + 1)) : undefined,
  };
}

/** What cannot be serialised, such as a function, is described. */
function copyOf(value: unknown): unknown {
  try {
    serialize(value);
    return value;
  } catch {
    return inspect(value);
  }
}
