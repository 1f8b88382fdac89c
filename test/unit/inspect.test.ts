import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { diff, pinSync, type Snapshot, snapshot, unpinSync, watch } from 'dmabuf/inspect';
import { type ArgumentRow, testArguments } from '../support/argument-tests.js';
import {
  type BadValue,
  badFlags,
  badModes,
  badOptions,
  badSignals,
  notOptions,
} from '../support/bad-values.js';
import { rejectsCode, throwsCode, unsound } from '../support/expect.js';
import { endingSignals, PolyfilledSignal } from '../support/odd-signals.js';
import { bufferUsage, snapshotOf } from '../support/snapshots.js';

const type = 'ERR_INVALID_ARG_TYPE';
const range = 'ERR_OUT_OF_RANGE';

const badPidLists: readonly BadValue[] = [
  ['null', null, type],
  ['a number', 1, type],
  ['a text', 'all', type],
  ['a text in it', ['1'], type],
  ['0 in it', [0], range],
  ['a fraction in it', [1.5], range],
  ['a negative number in it', [1, -1], range],
  ['2^31 in it', [2 ** 31], range],
];
const badSourceNames: readonly BadValue[] = [
  ['null', null, type],
  ['a number', 1, type],
  ['a list', ['bpf'], type],
  ['no such source', 'ebpf', range],
  ['another case', 'BPF', range],
  ['nothing in it', '', range],
];
const badFolders: readonly BadValue[] = [
  ['null', null, type],
  ['a number', 1, type],
  ['nothing in it', '', range],
  ['a NUL in it', '/sys\0', range],
  ['a path that is too long', '/'.repeat(5000), range],
];
const badIntervals: readonly BadValue[] = [
  ['null', null, type],
  ['a text', '1000', type],
  ['a negative number', -1, range],
  ['NaN', Number.NaN, range],
  ['2^31', 2 ** 31, range],
];

function snapshotRows(name: string, call: (options: unknown) => unknown, rejects: boolean): ArgumentRow[] {
  const option = (key: string, bad: readonly BadValue[]): ArgumentRow => ({
    argument: `${name}, option ${key},`,
    bad,
    call: (value) => call({ [key]: value }),
    rejects,
  });
  return [
    { argument: `${name}, options,`, bad: badOptions, call, rejects },
    option('pids', badPidLists),
    option('source', badSourceNames),
    option('devices', badFlags),
    option('pinned', badFolders),
  ];
}

const withOption =
  (call: (options: unknown) => unknown, key: string): ArgumentRow['call'] =>
  (value) =>
    call({ [key]: value });
const startWatch = (options: unknown): unknown => watch(unsound(options));
const pin = (options: unknown): unknown => pinSync(unsound(options));

describe('arguments of inspection', () => {
  testArguments(test, [
    ...snapshotRows('snapshot', (options) => snapshot(unsound(options)), true),
    ...snapshotRows('watch', startWatch, false),
    { argument: 'watch, option interval,', bad: badIntervals, call: withOption(startWatch, 'interval') },
    { argument: 'watch, option signal,', bad: badSignals, call: withOption(startWatch, 'signal') },
    { argument: 'pinSync, options,', bad: notOptions, call: pin },
    { argument: 'pinSync, option folder,', bad: badFolders, call: withOption(pin, 'folder') },
    { argument: 'pinSync, option mode,', bad: badModes, call: withOption(pin, 'mode') },
    { argument: 'pinSync, option holders,', bad: badFlags, call: withOption(pin, 'holders') },
    { argument: 'unpinSync, folder,', bad: badFolders, call: (value) => unpinSync(unsound(value)) },
  ]);

  test('files that others may write are not pinned', () => {
    for (const mode of [0o464, 0o446, 0o777]) throwsCode(() => pinSync({ mode }), range);
  });

  test('a folder whose whole path is too long is refused, not cut off', (t) => {
    const home = process.cwd();
    const deep = join(mkdtempSync(join(tmpdir(), 'dmabuf-')), 'x'.repeat(200));
    t.after(() => {
      process.chdir(home);
      rmSync(dirname(deep), { recursive: true });
    });
    mkdirSync(deep);
    process.chdir(deep);
    const folder = 'x/'.repeat(1990);
    throwsCode(() => unpinSync(folder), 'ENAMETOOLONG');
    throwsCode(() => pinSync({ folder }), 'ENAMETOOLONG');
  });

  test('diff takes snapshots', async () => {
    const taken = await snapshot({ source: 'procfs' });
    for (const value of [undefined, null, {}, [], 'snapshot', { buffers: [] }]) {
      throwsCode(() => diff(unsound(value), taken), type);
      throwsCode(() => diff(taken, unsound(value)), type);
    }
  });

  test('a signal that was aborted ends watch() at once, with its reason', async () => {
    const reason = new Error('enough');
    await assert.rejects(watch({ signal: AbortSignal.abort(reason) }).next(), reason);
  });

  for (const [what, signal] of Object.entries(endingSignals)) {
    test(`a signal ${what} ends the pause of watch()`, async () => {
      await assert.rejects(async () => {
        const watching = watch({ source: 'procfs', interval: 2 ** 31 - 1, signal: signal() });
        await watching.next();
        await watching.next();
      });
    });
  }

  test('a signal of no realm at all ends the pause of watch(), with its reason', async () => {
    const signal = new PolyfilledSignal();
    const reason = new Error('enough');
    const watching = watch({ source: 'procfs', interval: 2 ** 31 - 1, signal: unsound(signal) });
    await watching.next();
    const next = watching.next();
    while (signal.listeners.size === 0) await new Promise((resolve) => setImmediate(resolve));
    signal.abort(reason);
    await assert.rejects(next, reason);
    assert.equal(signal.listeners.size, 0);
  });

  test('an interval may be a fraction', async () => {
    let left = 2;
    for await (const _taken of watch({ source: 'procfs', interval: 0.5 })) if (--left === 0) break;
  });

  test('return() and await using end the pause of watch() at once', async () => {
    await using watching = watch({ source: 'procfs', interval: 2 ** 31 - 1 });
    await watching.next();
    const next = watching.next();
    await new Promise((resolve) => setImmediate(resolve));
    await watching.return();
    assert.equal((await next).done, true);
  });

  test('throw() ends the pause of watch() at once, with its error', async () => {
    const reason = new Error('enough');
    const watching = watch({ source: 'procfs', interval: 2 ** 31 - 1 });
    await watching.next();
    const next = watching.next();
    await new Promise((resolve) => setImmediate(resolve));
    await assert.rejects(watching.throw(reason), reason);
    assert.equal((await next).done, true);
  });

  test('no process: nothing is looked at, and nothing is wrong', async () => {
    const { buffers, processes, unreadable } = await snapshot({ pids: [], source: 'procfs' });
    assert.deepEqual([buffers, processes, unreadable], [[], [], []]);
  });

  test('an unknown source is refused before anything is asked', async () => {
    const error = await rejectsCode(() => snapshot({ source: unsound('sysctl') }), range);
    assert.match(error.message, /'auto', 'procfs', 'bpf', 'debugfs' or 'sysfs'/);
  });
});

/** A snapshot with these buffers, of which each is held by the processes named. */
function made(...buffers: [inode: number, size: number, pids: number[], name?: string][]): Snapshot {
  return snapshotOf(
    buffers.map(([inode, size, pids, name]) =>
      bufferUsage({
        inode,
        size,
        holders: pids.map((pid) => ({ pid, fds: 1, mappings: 0 })),
        ...(name !== undefined && { name }),
      }),
    ),
  );
}

describe('diff', () => {
  test('of a snapshot with itself is empty', () => {
    const taken = made([1, 4096, [7]], [2, 8192, []]);
    const nothing = { appeared: [], gone: [], changed: [], grown: [], shrunk: [], exporters: [] };
    assert.deepEqual(diff(taken, taken), { ...nothing, total: { buffers: 0, size: 0 } });
  });

  test('the other way round is the opposite', () => {
    const [before, after] = [made([1, 4096, [7]], [2, 8192, [8]]), made([2, 8192, [7, 8]], [3, 100, [9]])];
    const [there, back] = [diff(before, after), diff(after, before)];
    assert.deepEqual(there.appeared, back.gone);
    assert.deepEqual(there.gone, back.appeared);
    assert.deepEqual(
      there.grown.map(({ pid, growth }) => [pid, growth]),
      back.shrunk.map(({ pid, growth }) => [pid, -growth]),
    );
    assert.equal(there.total.size, -back.total.size);
  });

  test('a process that is gone has shrunk by all that it held', () => {
    const { shrunk, grown } = diff(made([1, 4096, [7]]), made([1, 4096, []]));
    assert.deepEqual(
      shrunk.map(({ pid, growth, after }) => [pid, growth, after]),
      [[7, -4096, undefined]],
    );
    assert.deepEqual(grown, []);
  });

  for (const what of ['fds', 'mappings'] as const) {
    test(`more ${what} of the same buffers are growth, fewer are the opposite`, () => {
      const [before, after] = [made([1, 4096, [7, 8]]), made([1, 4096, [7, 8]])];
      for (const process of after.processes) if (process.pid === 7) process[what] += 3;
      const { grown, shrunk } = diff(before, after);
      assert.deepEqual(
        grown.map((change) => [change.pid, change.growth, change[what]]),
        [[7, 0, 3]],
      );
      assert.deepEqual(shrunk, []);
      assert.deepEqual(
        diff(after, before).shrunk.map((change) => [change.pid, change[what]]),
        [[7, -3]],
      );
    });
  }

  test('bytes count before descriptors', () => {
    const [before, after] = [made([1, 4096, [7]]), made([1, 4096, [7]], [2, 4096, [7]])];
    for (const process of before.processes) process.fds = 100;
    assert.deepEqual(
      diff(before, after).grown.map(({ growth, fds }) => [growth, fds]),
      [[4096, -98]],
    );
  });

  test('a name, a holder, a size: each makes a buffer another', () => {
    const before = made([1, 4096, [7]]);
    for (const after of [made([1, 4096, [7], 'x']), made([1, 4096, [8]]), made([1, 8192, [7]])]) {
      assert.equal(diff(before, after).changed.length, 1);
    }
  });
});
