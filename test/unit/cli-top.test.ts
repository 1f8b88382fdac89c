import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  afterKey,
  initialState,
  renderScreen,
  sortColumns,
  type TopState,
} from '../../lib/cli/top-screen.js';
import { bufferUsage, snapshotOf } from '../support/snapshots.js';

const start = initialState('buffers', 1000);

function after(...keys: string[]): TopState {
  return keys.reduce((state, key) => afterKey(state, key, 10), start);
}

describe('the keys of top', () => {
  it('q ends it', () => assert.equal(after('q').done, true));
  it('p, e and b choose what is listed', () => {
    assert.equal(after('p').view, 'processes');
    assert.equal(after('e').view, 'exporters');
    assert.equal(after('p', 'b').view, 'buffers');
    assert.equal(after('tab').view, 'processes');
  });
  it('s and > go through the columns, < goes back', () => {
    assert.equal(after('s').sort.buffers, 'inode');
    assert.equal(after('>', '<').sort.buffers, 'size');
    assert.equal(after('<').sort.buffers, 'holders');
    assert.equal(after(...sortColumns('buffers').map(() => 's')).sort.buffers, 'size');
  });
  it('each list keeps its column', () => assert.equal(after('s', 'p', 's', 'b').sort.buffers, 'inode'));
  it('space pauses and goes on', () => {
    assert.equal(after('space').paused, true);
    assert.equal(after('space', 'space').paused, false);
  });
  it('+ looks more often, - less often, both within limits', () => {
    assert.equal(after('+').interval, 500);
    assert.equal(after('-').interval, 2000);
    assert.equal(after(...Array<string>(20).fill('+')).interval, 100);
    assert.equal(after(...Array<string>(20).fill('-')).interval, 60_000);
  });
  it('j and k scroll, not above the first row', () => {
    assert.equal(after('j', 'down', 'k').scroll, 1);
    assert.equal(after('k', 'up').scroll, 0);
    assert.equal(after('pagedown').scroll, 10);
  });
  it('h shows help until any key', () => {
    assert.equal(after('h').help, true);
    assert.equal(after('h', 'p').help, false);
    assert.equal(after('h', 'p').view, 'buffers');
    assert.equal(after('h', 'q').done, true);
  });
  it('another key does nothing', () => assert.deepEqual(after('x', '\x1b', ''), start));
});

describe('the screen of top', () => {
  const taken = snapshotOf(
    Array.from({ length: 100 }, (_, inode) => bufferUsage({ inode, name: `n\x1b[2J${inode}カメラ` })),
  );

  for (const [columns, rows] of [
    [80, 24],
    [40, 10],
    [20, 3],
    [200, 60],
  ] as const) {
    it(`fits ${columns} by ${rows}`, async () => {
      for (const state of [start, after('p'), after('e'), after('h')]) {
        const { lines } = await renderScreen(taken, state, {}, { columns, rows });
        assert.ok(lines.length <= rows);
        for (const line of lines) assert.ok(!line.includes('\x1b[2J'));
      }
    });
  }

  it('shows what a process holds more than at first: bytes, or descriptors and mappings alone', async () => {
    const holders = [1, 2, 3].map((pid) => ({ pid, fds: 1, mappings: 0 }));
    const first = snapshotOf([bufferUsage({ inode: 1, holders })]);
    const now = snapshotOf([bufferUsage({ inode: 1, holders })]);
    const [larger, leaks] = now.processes as [(typeof now.processes)[0], (typeof now.processes)[0]];
    larger.rss += 8192;
    leaks.fds += 5;
    leaks.mappings += 1;
    const state = { ...after('p'), sort: { ...start.sort, processes: 'growth' } };
    const { lines } = await renderScreen(now, state, {}, { columns: 100, rows: 24 }, first);
    const rows = lines.slice(-3).map((line) => line.trim().split(/ {2,}/));
    assert.deepEqual(
      rows.map((row) => [row[0], row.at(-2)]),
      [
        ['1', '+8 KiB'],
        ['2', '+5 fds +1 map'],
        ['3', '-'],
      ],
    );
  });

  it('scrolls to the last row and not further', async () => {
    const size = { columns: 80, rows: 24 };
    const { lines, state } = await renderScreen(taken, after('G', 's'), {}, size);
    assert.match(lines.at(-1) ?? '', /^ *99 /);
    const { lines: before } = await renderScreen(taken, afterKey(state, 'k', 10), {}, size);
    assert.match(before.at(-1) ?? '', /^ *98 /);
  });
});
