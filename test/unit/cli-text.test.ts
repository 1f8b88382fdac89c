import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatSize, parseSize, toJson } from '../../lib/cli/text.js';
import { DmaBufError } from '../../lib/errors.js';
import { escapeName } from '../../lib/escape.js';

/** Everything that moves a terminal's cursor, changes the direction of text, hides, or ends a line. */
const dangerous = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u;
/** What a terminal shows as a space, or not at all. */
const blank = /(?! )[\p{Zs}\p{Default_Ignorable_Code_Point}\u2800]/u;

describe('names on a terminal', () => {
  const cases: [string, string, string][] = [
    ['a newline', 'a\nb', 'a\\nb'],
    ['a tab', 'a\tb', 'a\\tb'],
    ['an escape sequence', '\x1b]0;x\x07', '\\x1b]0;x\\x07'],
    ['DEL', '\x7f', '\\x7f'],
    ['a C1 control', '\x9b31m', '\\x9b31m'],
    ['an override of the direction', '\u202eabc', '\\u202eabc'],
    ['a line separator', '\u2028', '\\u2028'],
    ['a tag that cannot be seen', '\u{e0041}', '\\u{e0041}'],
    ['a letter that is blank', 'a\u3164\u115f\uffa0', 'a\\u3164\\u115f\\uffa0'],
    ['a mark that is blank', 'a\u034fb\ufe0f', 'a\\u034fb\\ufe0f'],
    ['another space than the space', 'a b\xa0c\u3000d', 'a b\\xa0c\\u3000d'],
    ['Braille without dots', '\u2800', '\\u2800'],
    ['a backslash', 'a\\n', 'a\\\\n'],
    ['letters of any script', 'caméra カメラ', 'caméra カメラ'],
    ['bytes that were no UTF-8', '\ufffd', '\ufffd'],
  ];
  for (const [what, name, shown] of cases) it(`shows ${what}`, () => assert.equal(escapeName(name), shown));

  it('holds nothing dangerous, and differs where names differ', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (a, b) => {
        assert.doesNotMatch(escapeName(a), dangerous);
        assert.doesNotMatch(escapeName(a), blank);
        assert.equal(escapeName(a) === escapeName(b), a === b);
      }),
    );
  });
});

describe('JSON', () => {
  it('reads back as what it was, and holds nothing dangerous', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (name) => {
        const json = toJson({ name });
        assert.deepEqual(JSON.parse(json), { name });
        assert.doesNotMatch(json, dangerous);
      }),
    );
  });

  it('has errors as code and message, and what to do where that is known', () => {
    const error = new DmaBufError('EACCES: no', { code: 'EACCES', errno: -13 });
    const other = new DmaBufError('EPERM: no', { code: 'EPERM', hint: 'Be root' });
    assert.deepEqual(JSON.parse(toJson({ attempts: [{ source: 'bpf', error }, { error: other }] })), {
      attempts: [
        { source: 'bpf', error: { code: 'EACCES', message: 'EACCES: no' } },
        { error: { code: 'EPERM', message: 'EPERM: no. Be root.', hint: 'Be root.' } },
      ],
    });
  });
});

describe('sizes', () => {
  const sizes: [string, number][] = [
    ['0', 0],
    ['4096', 4096],
    ['4k', 4096],
    ['4K', 4096],
    ['4KiB', 4096],
    ['1.5M', 1_572_864],
    ['2GB', 2 ** 31],
    ['1 TiB', 2 ** 40],
    ['7B', 7],
  ];
  for (const [text, bytes] of sizes) it(`reads ${text}`, () => assert.equal(parseSize(text), bytes));
  for (const text of ['', 'k', '-1', '1e3', '0x10', '1P', '1.M', '4 k k', '9999999T', 'Infinity']) {
    it(`refuses '${text}'`, () => assert.equal(parseSize(text), undefined));
  }
  it('are for people, or exact', () => {
    assert.equal(formatSize(8192), '8 KiB');
    assert.equal(formatSize(8192, true), '8192');
    assert.equal(formatSize(8192, false, true), '+8 KiB');
    assert.equal(formatSize(-8192, false, true), '-8 KiB');
    assert.equal(formatSize(0, false, true), '0 B');
    assert.equal(formatSize(1.5, true), '2');
  });
});
