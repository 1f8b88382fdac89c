import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { DmaBufInfo } from 'dmabuf';
import { parseFdInfo } from 'dmabuf/inspect';
import fc from 'fast-check';

/** What Linux 6.12 and 7.2 print, byte for byte. */
const header = 'pos:\t0\nflags:\t02000002\nmnt_id:\t14\nino:\t1\nsize:\t8192\ncount:\t1\nexp_name:\tsystem\n';
const unnamed: DmaBufInfo = { inode: 1, size: 8192, exporter: 'system', references: 1, flags: 0o2000002 };

const named = (name: string): DmaBufInfo => ({ ...unnamed, name });

describe('the fdinfo of a dma-buf', () => {
  const texts: readonly [string, string, DmaBufInfo][] = [
    ['without a name', header, unnamed],
    ['with a name', `${header}name:\tframe-0\n`, named('frame-0')],
    ['with an empty name', `${header}name:\t\n`, named('')],
    ['with a name of 31 bytes', `${header}name:\t${'x'.repeat(31)}\n`, named('x'.repeat(31))],
    ['with a multibyte name', `${header}name:\t帧🎞é\n`, named('帧🎞é')],
    ['with a newline in the name', `${header}name:\ta\nb\n`, named('a\nb')],
    ['with a newline at the end of the name', `${header}name:\ta\n\n`, named('a\n')],
    ['with a name of newlines', `${header}name:\t\n\n\n`, named('\n\n')],
    ['with a name that ends in blanks', `${header}name:\t a\t \n`, named(' a\t ')],
    ['with a carriage return in the name', `${header}name:\ta\r\n`, named('a\r')],
    [
      'with every key forged in the name',
      `${header}name:\tevil\nexp_name:\tudmabuf\nsize:\t1\ncount:\t7\nino:\t9\nflags:\t01\nname:\tx\n`,
      named('evil\nexp_name:\tudmabuf\nsize:\t1\ncount:\t7\nino:\t9\nflags:\t01\nname:\tx'),
    ],
    [
      'of a kernel without inodes (before 5.15)',
      'pos:\t0\nflags:\t02\nmnt_id:\t14\nsize:\t4096\ncount:\t2\nexp_name:\tdrm\nname:\ta\n',
      { inode: 0, size: 4096, exporter: 'drm', name: 'a', references: 2, flags: 2 },
    ],
    [
      'of a kernel with more keys',
      header.replace('size:', 'scm_fds:\t0\nsize:').replace('exp_name:', 'domain:\tvram\nexp_name:'),
      unnamed,
    ],
    [
      'of a kernel with keys in another order',
      'exp_name:\tsystem\ncount:\t1\nsize:\t8192\nino:\t1\nflags:\t02000002\nname:\ta\n',
      named('a'),
    ],
    ['of a huge buffer', header.replace('8192', String(2 ** 53 - 1)), { ...unnamed, size: 2 ** 53 - 1 }],
    ['of a read-only descriptor', header.replace('02000002', '02000000'), { ...unnamed, flags: 0o2000000 }],
    [
      'of an exporter with blanks',
      header.replace('system', 'my driver'),
      { ...unnamed, exporter: 'my driver' },
    ],
  ];
  for (const [what, text, info] of texts) {
    test(`${what} is understood`, () => {
      assert.deepEqual(parseFdInfo(text), info);
    });
  }

  test('is understood as bytes too', () => {
    assert.deepEqual(parseFdInfo(Buffer.from(`${header}name:\t帧\n`)), named('帧'));
  });

  test('is understood in a view into a larger buffer', () => {
    const bytes = Buffer.from(`size:\t1\n${header}name:\ta\nname:\tb\n`);
    const start = 'size:\t1\n'.length;
    assert.deepEqual(
      parseFdInfo(new Uint8Array(bytes.buffer, bytes.byteOffset + start, header.length + 8)),
      named('a'),
    );
  });

  test('is understood in shared memory', () => {
    const bytes = new Uint8Array(new SharedArrayBuffer(header.length));
    bytes.set(Buffer.from(header));
    assert.deepEqual(parseFdInfo(bytes), unnamed);
  });

  test('replaces bytes that are no UTF-8', () => {
    const text = Buffer.concat([Buffer.from(`${header}name:\ta`), Buffer.from([0xff, 0xc3, 0x0a])]);
    assert.deepEqual(parseFdInfo(text), named('a\ufffd\ufffd'));
  });

  test('has no name property when the name is unset', () => {
    assert.equal('name' in (parseFdInfo(header) ?? {}), false);
  });
});

describe('the fdinfo of anything else', () => {
  const common = 'pos:\t0\nflags:\t02\nmnt_id:\t14\nino:\t1\n';
  const texts: readonly [string, string][] = [
    ['nothing', ''],
    ['a newline', '\n'],
    ['a regular file', common],
    ['a socket', `${common}scm_fds: 0\n`],
    ['an eventfd', `${common}eventfd-count:                0\neventfd-id: 12\n`],
    [
      'an epoll instance',
      `${common}tfd:        5 events:       19 data:                5  pos:0 ino:61af sdev:7\n`,
    ],
    ['an inotify instance', `${common}inotify wd:3 ino:9e7e sdev:800013 mask:800afce\n`],
    ['a timerfd', `${common}clockid: 0\nticks: 0\nsettime flags: 01\nit_value: (0, 0)\n`],
    ['a DRM device', `${common}drm-driver:\ti915\ndrm-client-id:\t7\ndrm-total-memory:\t8192 KiB\n`],
    ['a sync_file-like file', `${common}name:\tsize:\t8192\ncount:\t1\nexp_name:\tsystem\n`],
    [
      'a dma-buf whose keys are all in the name',
      `${common}name:\t\nsize:\t1\ncount:\t1\nexp_name:\tsystem\n`,
    ],
    ['no size', header.replace(/size:.*\n/, '')],
    ['no count', header.replace(/count:.*\n/, '')],
    ['no exporter', header.replace(/exp_name:.*\n/, '')],
    ['an empty size', header.replace('8192', '')],
    ['a negative size', header.replace('8192', '-1')],
    ['a size in hexadecimal', header.replace('8192', '0x2000')],
    ['a size with a unit', header.replace('8192', '8 kB')],
    ['a size beyond 2^53', header.replace('8192', String(2 ** 53))],
    ['a count beyond 2^53', header.replace('count:\t1', `count:\t${2 ** 53}`)],
    ['an inode beyond 2^53', header.replace('ino:\t1', 'ino:\t9007199254740993')],
    ['a size beyond 2^64', header.replace('8192', '18446744073709559808')],
    ['a negative count', header.replace('count:\t1', 'count:\t-1')],
    ['flags that are not octal', header.replace('02000002', '09')],
    ['blanks in place of tabs', header.replaceAll('\t', ' ')],
    ['keys in capitals', header.toUpperCase()],
    ['a last line without its newline', header.trimEnd()],
    ['a name without its newline', `${header}name:\ta`],
  ];
  for (const [what, text] of texts) {
    test(`(${what}) is not a dma-buf's`, () => {
      assert.equal(parseFdInfo(text), undefined);
    });
  }
});

/** Bytes that a name can have: any but NUL, at most 31. */
const nameBytes = fc.uint8Array({ min: 1, max: 255, maxLength: 31 });

/** Names that try to look like the kernel's own lines. */
const forgedName = fc
  .array(
    fc.constantFrom(
      '\n',
      ':',
      '\t',
      'name:\t',
      'size:\t',
      'ino:\t',
      'count:\t',
      '1',
      '9',
      'exp_name:\t',
      'é',
      ' ',
    ),
    { maxLength: 9 },
  )
  .map((parts) => new TextEncoder().encode(parts.join('')).subarray(0, 31));

const kernelText = fc.record({
  inode: fc.nat(),
  size: fc.maxSafeNat(),
  references: fc.nat(),
  flags: fc.nat(0o7777777),
  exporter: fc.constantFrom('system', 'udmabuf', 'drm', 'vfio_pci_core', 'linux,cma'),
  name: fc.option(fc.oneof(nameBytes, forgedName), { nil: undefined }),
});

type KernelText = typeof kernelText extends fc.Arbitrary<infer T> ? T : never;

function print({ inode, size, references, flags, exporter, name }: KernelText): Buffer {
  const lines = `pos:\t0\nflags:\t0${flags.toString(8)}\nmnt_id:\t14\nino:\t${inode}\nsize:\t${size}\ncount:\t${references}\nexp_name:\t${exporter}\n`;
  return name === undefined
    ? Buffer.from(lines)
    : Buffer.concat([Buffer.from(`${lines}name:\t`), name, Buffer.from('\n')]);
}

function expected({ name, ...rest }: KernelText): DmaBufInfo {
  return name === undefined ? rest : { ...rest, name: Buffer.from(name).toString() };
}

function assertSane(info: DmaBufInfo | undefined): void {
  if (info === undefined) return;
  for (const number of [info.inode, info.size, info.references, info.flags]) {
    assert.ok(Number.isSafeInteger(number) && number >= 0, JSON.stringify(info));
  }
  assert.equal(typeof info.exporter, 'string');
  assert.ok(!info.exporter.includes('\n'), 'one line');
  if ('name' in info) assert.equal(typeof info.name, 'string');
}

describe('parseFdInfo', () => {
  test('gives exactly what the kernel printed, whatever the name', () => {
    fc.assert(fc.property(kernelText, (text) => assert.deepEqual(parseFdInfo(print(text)), expected(text))));
  });

  test('agrees with itself on text and bytes', () => {
    fc.assert(
      fc.property(kernelText, (text) => {
        const bytes = print(text);
        assert.deepEqual(parseFdInfo(bytes.toString()), parseFdInfo(bytes));
      }),
    );
  });

  test('gives nothing, or nothing wrong, for the beginning of a text', () => {
    fc.assert(
      fc.property(kernelText, fc.double({ min: 0, max: 1, noNaN: true }), (text, part) => {
        const bytes = print({ ...text, name: text.name?.filter((byte) => byte < 128) });
        const info = parseFdInfo(bytes.subarray(0, Math.floor(bytes.length * part)));
        if (info === undefined) return;
        const { name: wholeName = '', ...whole } = parseFdInfo(bytes) as DmaBufInfo;
        const { name = '', ...rest } = info;
        assert.deepEqual(rest, whole);
        assert.ok(wholeName.startsWith(name), 'the name, or its beginning');
      }),
    );
  });

  test('takes any bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => assertSane(parseFdInfo(bytes))));
  });

  test('takes any string', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => assertSane(parseFdInfo(text))));
  });

  test('takes any mixture of keys and values', () => {
    const piece = fc.constantFrom(
      'size:',
      'count:',
      'exp_name:',
      'name:',
      'ino:',
      'flags:',
      '\t',
      '\n',
      '0',
      '77',
      '-',
      'x',
      ':',
      '\0',
    );
    const line = fc.constantFrom(
      'size:\t1\n',
      'count:\t1\n',
      'exp_name:\tdrm\n',
      'name:\ta\n',
      'size:\t\n',
      'ino:\t99999999999999999999\n',
    );
    const text = fc.array(fc.oneof(piece, line), { maxLength: 12 }).map((parts) => parts.join(''));
    fc.assert(
      fc.property(text, (value) => assertSane(parseFdInfo(value))),
      { numRuns: 2000 },
    );
  });
});
