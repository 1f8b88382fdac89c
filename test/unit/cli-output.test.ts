import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { bufferColumns } from '../../lib/cli/buffers.js';
import { wrap } from '../../lib/cli/doctor.js';
import { type Column, describeUnseen, formatTable, toCsv } from '../../lib/cli/output.js';
import { DmaBufError } from '../../lib/errors.js';
import { findingOnProcesses } from '../../lib/inspect/doctor.js';
import type { Unreadable } from '../../lib/inspect/model.js';
import { bufferUsage, snapshotOf } from '../support/snapshots.js';

const endless = Number.POSITIVE_INFINITY;
const column: Column<string> = { title: 'name', value: (name) => name, shrinks: true };
const number: Column<string> = { title: 'length', kind: 'number', value: (name) => name.length };

/** What Unicode's UAX #11 calls wide, of the blocks that are so as a whole, and emoji. */
const wide =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\u3247\u3250-\u4dbf\u4e00-\ua4c6\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6b\uff01-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|^\p{Emoji_Presentation}/u;
const graphemes = new Intl.Segmenter();

/** Columns on a terminal, rather fewer than it takes than more. */
function widthOf(line: string): number {
  const widths = Array.from(graphemes.segment(line), ({ segment }) => {
    if (/^[\p{Mn}\p{Me}\p{Cf}]/u.test(segment)) return 0;
    return wide.test(segment) ? 2 : 1;
  });
  return widths.reduce((sum: number, width) => sum + width, 0);
}

describe('a table', () => {
  it('has headings in capitals, numbers to the right, and no spaces at the ends of lines', async () => {
    assert.deepEqual(await formatTable(['a', 'bcdefghijk'], [number, column], {}, endless), [
      'LENGTH  NAME',
      '     1  a',
      '    10  bcdefghijk',
    ]);
  });

  for (const [what, name] of [
    ['accents', 'é'],
    ['accents of their own', 'e\u0301'],
    ['wide characters', '漢字'],
    ['emoji', '👍🏽'],
    ['Hangul in letters', '\u1112\u1161\u11ab'],
  ] as const) {
    it(`has its columns below each other with ${what}`, async () => {
      const lines = await formatTable([name, 'abcdef'], [column, number], {}, endless);
      assert.deepEqual(lines.map(widthOf), [14, 14, 14]);
    });
  }

  it('cuts no character in two, neither a wide one nor one of several parts', async () => {
    const cut = (name: string, width: number): Promise<string[]> => formatTable([name], [column], {}, width);
    assert.equal((await cut('漢字漢字漢字', 8))[1], '漢字漢…');
    assert.equal((await cut('漢字漢字漢字', 9))[1], '漢字漢字…');
    assert.equal((await cut('e\u0301'.repeat(9), 8))[1], `${'e\u0301'.repeat(7)}…`);
    assert.deepEqual(await formatTable(['漢字漢字漢字'], [column, number], {}, 16), [
      'NAME      LENGTH',
      '漢字漢…        6',
    ]);
  });

  it('is cut where the terminal is narrow, first where a column gives way', async () => {
    const lines = await formatTable(['x'.repeat(100)], [number, column], {}, 40);
    assert.deepEqual(lines, ['LENGTH  NAME', `   100  ${'x'.repeat(31)}…`]);
  });

  it('cuts nothing where there is no terminal', async () => {
    const name = 'ü'.repeat(300);
    assert.equal((await formatTable([name], [column, number], {}, endless))[1], `${name}     300`);
  });

  it('fits any width, whatever the names are', async () => {
    const columns = bufferColumns([]);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: 'grapheme' }), fc.string()), {
          maxLength: 5,
        }),
        fc.integer({ min: 30, max: 200 }),
        async (names, width) => {
          const buffers = names.map((name, inode) => bufferUsage({ inode, name, size: 2 ** 40 + inode }));
          const lines = await formatTable(buffers, columns, {}, width);
          assert.equal(lines.length, 1 + names.length);
          for (const line of lines) assert.ok(widthOf(line) <= width, `${width}: ${JSON.stringify(line)}`);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('has every row when there are many', async () => {
    const names = Array.from({ length: 501 }, (_, index) => `é${index}`);
    const lines = await formatTable(names, [column], {}, endless);
    assert.deepEqual(lines.slice(1), names);
  });

  it('shows a dash for what is unknown, and a lower bound as one', async () => {
    const [, line] = await formatTable(
      [{ inode: 1, size: 4096, sizeIsLowerBound: true as const, holders: [] }],
      bufferColumns([]),
      {},
      endless,
    );
    assert.match(line ?? '', /^ +1 {2}>=4 KiB {2}- +- +- +-$/);
  });

  it('names the holders by their commands, escaped', async () => {
    const { buffers, processes } = snapshotOf([
      bufferUsage({ inode: 1, holders: [{ pid: 7, fds: 1, mappings: 0 }] }),
    ]);
    (processes[0] as { command: string }).command = 'a\nb';
    const [, line] = await formatTable(buffers, bufferColumns(processes), {}, endless);
    assert.match(line ?? '', / {2}7 a\\nb$/);
  });
});

describe('CSV', () => {
  it('has one line for a row, whatever the names are', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.string({ unit: 'binary' })), async (names) => {
        const csv = await toCsv(names, [column, number]);
        assert.equal(csv.split(/[\n\r\u2028\u2029]/).length, names.length + 2);
      }),
    );
  });

  it('keeps a name in its field', async () => {
    assert.equal(
      await toCsv(['a,b', 'say "hi"'], [column, number]),
      'name,length\n"a,b",3\n"say ""hi""",8\n',
    );
  });

  it('is not calculated by a spreadsheet, and leaves numbers alone', async () => {
    const negative: Column<string> = { title: 'growth', value: () => -5 };
    assert.equal(await toCsv(['=1+1'], [column, negative]), "name,growth\n'=1+1,-5\n");
  });

  it('has sizes in bytes', async () => {
    const csv = await toCsv([bufferUsage({ inode: 3, name: 'frame' })], bufferColumns([]));
    assert.equal(csv, 'inode,size,exporter,refs,name,holders\n3,4096,system,1,frame,\n');
  });
});

describe('what could not be seen', () => {
  it('is nothing when all was', () => assert.deepEqual(describeUnseen(snapshotOf([])), []));

  it('is said in two sentences at most', () => {
    const refused = (code: string): DmaBufError => new DmaBufError(`${code}: no`, { code });
    const sentences = describeUnseen(
      snapshotOf([], {
        unreadable: [
          { pid: 1, error: 'EACCES', what: 'both' },
          { pid: 2, error: 'EACCES', what: 'mappings' },
        ],
        attempts: [
          { source: 'bpf', error: refused('EPERM') },
          { source: 'debugfs', error: refused('EACCES') },
        ],
      }),
    );
    assert.equal(sentences.length, 2);
    assert.match(sentences[0] ?? '', /^2 processes could not be read \(EACCES\)/);
    assert.match(sentences[1] ?? '', /bpf \(EPERM\), debugfs \(EACCES\)/);
  });

  for (const [error, advice] of [
    ['EAGAIN', /No thread could be created.*ulimit -u.*pids\.max/],
    ['ETIMEDOUT', /a lock that it holds, or for a file system that does not answer/],
    ['EIO', undefined],
  ] as const) {
    it(`is no matter of rights by ${error}, in the commands and in doctor`, () => {
      const unreadable: Unreadable[] = [{ pid: 1, error, what: 'mappings' }];
      const { status, text, fix = '' } = findingOnProcesses(unreadable);
      assert.deepEqual([status, text], ['warn', `1 of the visible processes could not be read (${error})`]);
      const [sentence = ''] = describeUnseen(snapshotOf([], { unreadable }));
      for (const said of [fix, sentence]) {
        assert.doesNotMatch(said, /root|CAP_/);
        if (advice !== undefined) assert.match(said, advice);
      }
      if (advice === undefined) assert.equal(fix, '');
    });
  }

  it('is what procfs says of itself, whatever its error is about', () => {
    const error = new DmaBufError('ENOENT: no processes are seen', { code: 'ENOENT', hint: 'Mount it' });
    const attempts = [{ source: 'procfs' as const, error }];
    assert.deepEqual(describeUnseen(snapshotOf([], { attempts })), [
      'ENOENT: no processes are seen. Mount it.',
    ]);
  });

  it('has advice for each of several causes', () => {
    const unreadable = ['EACCES', 'EAGAIN', 'EAGAIN'].map(
      (error, index): Unreadable => ({ pid: index + 1, error, what: 'mappings' }),
    );
    const { text, fix = '' } = findingOnProcesses(unreadable);
    assert.match(text, /^3 of .* \(EACCES, EAGAIN\)$/);
    assert.match(fix, /root.*\. No thread could be created/);
  });

  it('is not that a better source failed, when another lists every buffer', () => {
    const attempts = [{ source: 'bpf' as const, error: new DmaBufError('EPERM: no', { code: 'EPERM' }) }];
    assert.deepEqual(describeUnseen(snapshotOf([], { attempts, unaccounted: { buffers: 0, size: 0 } })), []);
  });
});

describe('lines of the doctor', () => {
  it('are wrapped between words', () => {
    assert.deepEqual(wrap('one two three', '  ', 9), ['  one two', '  three']);
    assert.deepEqual(wrap('one two three', '', endless), ['one two three']);
  });
});
