// npm run inject, inside a guest: every call of the addon fails in every script, and a table says what became of it.

import { parseArgs } from 'node:util';
import { allowAllocationsToFail } from './fail-nth.js';
import type { Verdict } from './judge.js';
import { Performers } from './performers.js';
import { allocations, reduced, thorough } from './plan.js';
import { scripts } from './scripts.js';
import { none, type Row, tryScript } from './try-script.js';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean' },
    rules: { type: 'boolean' },
    outcomes: { type: 'boolean' },
    allocations: { type: 'boolean' },
    most: { type: 'string' },
  },
});
const wanted = Object.keys(scripts).filter(
  (name) => positionals.length === 0 || positionals.some((text) => name.includes(text)),
);
const say = (text: string): void => void process.stderr.write(`inject: ${text}\n`);
const columns = ['errno', 'code', 'survived', 'not reached', 'WRONG'] as const;
const totalOf = (counts: Record<Verdict, number>): number =>
  columns.reduce((sum, column) => sum + counts[column], 0);

const form = options.allocations ? allocations : options.quick ? reduced : thorough;
if (options.allocations) allowAllocationsToFail();
const thoroughness = { ...form, most: Number(options.most ?? form.most) };
const performers = new Performers(thoroughness);
const wrongs: string[] = [];
if (positionals.length === 0) {
  const reply = await performers.perform({});
  const missing = 'missing' in reply ? (reply.missing ?? []) : [JSON.stringify(reply)];
  for (const name of missing) wrongs.push(`no script calls ${name}: add one to test/inject/scripts`);
  performers.end();
}
const rows: Row[] = [];
for (const script of wanted) {
  const start = performance.now();
  const row = await tryScript(
    script,
    performers,
    thoroughness,
    (text) => say(`✖ ${script}: ${text}`),
    (recorded) => options.outcomes && process.stderr.write(`${JSON.stringify(recorded)}\n`),
  );
  rows.push(row);
  wrongs.push(...row.wrongs.map((text) => `${script}: ${text}`));
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  say(`${script}: ${totalOf(row.counts)} injections, ${row.counts.WRONG} wrong, ${seconds} s`);
}
performers.end();

const byCall = new Map<string, Record<Verdict, number>>();
for (const row of rows) {
  for (const [label, counts] of row.byCall) {
    const sums = byCall.get(label) ?? none();
    byCall.set(label, sums);
    for (const column of columns) sums[column] += counts[column];
  }
}
const width = Math.max(
  ...rows.map(({ script }) => script.length),
  ...[...byCall.keys()].map(({ length }) => length),
);
const print = (first: string, cells: readonly (string | number)[]): void =>
  console.log(first.padEnd(width) + cells.map((cell) => String(cell).padStart(12)).join(''));
const sum = (of: (row: Row) => number): number => rows.reduce((total, row) => total + of(row), 0);
print('script', ['kinds', 'calls', 'injections', ...columns]);
for (const { script, kinds, calls, counts } of rows) {
  print(script, [kinds, calls, totalOf(counts), ...columns.map((column) => counts[column])]);
}
print(`${rows.length} scripts`, [
  '',
  sum(({ calls }) => calls),
  sum(({ counts }) => totalOf(counts)),
  ...columns.map((column) => sum(({ counts }) => counts[column])),
]);
console.log('');
print('system call', ['', '', 'injections', ...columns]);
for (const [label, counts] of [...byCall].sort(([a], [b]) => (a < b ? -1 : 1))) {
  print(label, ['', '', totalOf(counts), ...columns.map((column) => counts[column])]);
}
console.log(
  "\nerrno: the call's own errno; code: a documented code; survived: a way round, such as trying again",
);
if (options.rules) {
  const times = new Map<string, number>();
  for (const { allowed } of rows) {
    for (const [why, count] of allowed) times.set(why, (times.get(why) ?? 0) + count);
  }
  for (const [why, count] of times) console.log(`${String(count).padStart(6)}  ${why}`);
}
for (const what of wrongs) console.log(`✖ ${what}`);
console.log(`${performers.started} processes, ${wrongs.length} wrong`);
process.exitCode = wrongs.length === 0 && rows.length > 0 ? 0 : 1;
