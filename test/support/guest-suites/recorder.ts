// A reporter of node:test for test/vm/guest-tests.test.ts: what became of each test, a line of JSON each.

import { inspect } from 'node:util';

/** What became of a test. */
export interface Recorded {
  outcome: 'pass' | 'fail';
  name: string;
  nesting: number;
  place: string;
  skip?: string | boolean;
  todo?: string | boolean;
  /** What the test threw, as people see it. */
  error?: string;
}

type Event =
  | { type: 'test:stdout' | 'test:diagnostic'; data: { message: string } }
  | { type: 'test:pass' | 'test:fail'; data: Record<string, unknown> };

// biome-ignore lint/style/noDefaultExport: node:test wants it so.
export default async function* record(source: AsyncIterable<Event>): AsyncGenerator<string> {
  for await (const { type, data } of source) {
    if (type === 'test:diagnostic') yield `\n${JSON.stringify({ diagnostic: data.message })}\n`;
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    const { name, nesting, file, line, column, skip, todo, details } = data as Record<string, unknown>;
    const { error } = details as { error?: Error & { failureType?: string } };
    const what = error?.failureType === 'subtestsFailed' ? error.message : (error?.cause ?? error);
    const recorded = {
      outcome: type.slice('test:'.length),
      name,
      nesting,
      place: `${file}:${line}:${column}`,
      skip,
      todo,
      // What node:test itself was doing is not of the test.
      error:
        what &&
        (typeof what === 'string' ? what : inspect(what)).replace(
          /^.*( at .*node:internal|matching cause stack trace).*\n?/gm,
          '',
        ),
    };
    yield `\n${JSON.stringify(recorded)}\n`;
  }
}
