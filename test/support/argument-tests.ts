import type { TestContext } from 'node:test';
import {
  type BadValue,
  badAccesses,
  badFlags,
  badNames,
  badOptions,
  badSignals,
  badSizes,
} from './bad-values.js';
import { leavesNothing } from './descriptors.js';
import { rejectsCode, throwsCode } from './expect.js';

/** One argument of one public function, and the values that it must refuse. */
export interface ArgumentRow {
  /** The function's name and the argument's. */
  argument: string;
  bad: readonly BadValue[];
  /** Calls the function with that argument and good values for the others. */
  call: (value: unknown) => unknown;
  /** Whether the function returns a promise, which then must reject. */
  rejects?: boolean;
}

type DefineTest = (name: string, body: (t: TestContext) => void | Promise<void>) => unknown;

/** One test for each row: each value is refused with its code, and nothing is left behind. */
export function testArguments(define: DefineTest, rows: readonly ArgumentRow[]): void {
  for (const { argument, bad, call, rejects } of rows) {
    define(`${argument} refuses ${bad.length} kinds of bad values`, async () => {
      for (const [what, value, code] of bad) {
        const label = `${argument}: ${what}`;
        if (rejects) await leavesNothing(() => rejectsCode(() => call(value), code, label));
        else leavesNothing(() => throwsCode(() => call(value), code, label));
      }
    });
  }
}

/** The rows that every allocating function shares. `allocate` gets the size and the options. */
export function allocationRows(
  name: string,
  allocate: (size: unknown, options?: unknown) => unknown,
  rejects: boolean,
): ArgumentRow[] {
  const option = (key: string, bad: readonly BadValue[]): ArgumentRow => ({
    argument: `${name}, option ${key},`,
    bad,
    call: (value) => allocate(4096, { [key]: value }),
    rejects,
  });
  const rows: ArgumentRow[] = [
    { argument: `${name}, size,`, bad: badSizes, call: (value) => allocate(value), rejects },
    { argument: `${name}, options,`, bad: badOptions, call: (value) => allocate(4096, value), rejects },
    option('name', badNames),
    option('access', badAccesses),
    option('unchecked', badFlags),
  ];
  return rejects ? [...rows, option('signal', badSignals)] : rows;
}
