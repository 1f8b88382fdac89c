import { deepEqual, match } from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../support/programs.js';

type Source = readonly [path: string, text: string];
const { wrongNames, wrongNamesOf, wrongRegisters } = (await import(
  join(packageRoot, 'scripts/native-names.mjs')
)) as {
  wrongNames(interfaceText: string, sources: readonly Source[]): string[];
  wrongNamesOf(root: string): string[];
  wrongRegisters(nativeText: string, headerText: string): string[];
};

const declared = `
export interface Native {
  readonly path: string;
  close(handle: number): void;
  poll(handle: number, done: (errno: number, call?: string) => void): number;
}`;
const wrongWith = (...entries: string[]) =>
  wrongNames(declared, [['native/js/x.cc', `const Exports kX = {\n${entries.join(',\n')}\n};`]]);

test('the tables of the addon have the names and arguments of lib/native.ts', () => {
  deepEqual(wrongNamesOf(packageRoot), []);
  deepEqual(wrongWith('{"close", Entry<Close, 1>}', '{"poll", Entry<Poll, 2>}'), []);
});

for (const [what, entries, wrong] of [
  [
    'another name in C++',
    ['{"close", Entry<CloseHandle, 1>}', '{"poll", Entry<Poll, 2>}'],
    /should be Entry<Close, 1>/,
  ],
  [
    'another number of arguments',
    ['{"close", Entry<Close, 1>}', '{"poll", Entry<Poll, 3>}'],
    /should be Entry<Poll, 2>/,
  ],
  [
    'a name that TypeScript lacks',
    ['{"close", Entry<Close, 1>}', '{"poll", Entry<Poll, 2>}', '{"shut", Entry<Shut, 0>}'],
    /no "shut"/,
  ],
  [
    'a name twice',
    ['{"close", Entry<Close, 1>}', '{"poll", Entry<Poll, 2>}', '{"close", Entry<Close, 1>}'],
    /second time/,
  ],
  ['a function that no table has', ['{"close", Entry<Close, 1>}'], /no table in native\/ has "poll"/],
  ['what is no Entry<>', ['{"close", Close}', '{"poll", Entry<Poll, 2>}'], /is Close, and should be/],
] as const) {
  test(`the check of names refuses ${what}`, () => {
    const complaints = wrongWith(...entries);
    deepEqual(complaints.length, 1);
    match(complaints[0] as string, wrong);
  });
}

test('the check of registers refuses another name and another number', () => {
  const wrongWithout = (header: string) =>
    wrongRegisters('export const Register = {\n  fd: 0,\n  inode: 1,\n} as const;', header);
  deepEqual(
    wrongWithout('enum class Register : uint32_t {\n  kFd = 0,\n  // Of a file.\n  kInode = 1,\n};'),
    [],
  );
  deepEqual(wrongWithout('enum class Register : uint32_t {\n  kFd = 0,\n  kInode = 2,\n};').length, 2);
  deepEqual(wrongWithout('enum class Register : uint32_t {\n  kFd = 0,\n};').length, 1);
});
