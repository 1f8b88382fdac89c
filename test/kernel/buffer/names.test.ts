import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { allocateSync, type DmaBufInfo } from 'dmabuf';
import { parseFdInfo, readFdInfo } from 'dmabuf/inspect';
import fc from 'fast-check';
import { kernelTest } from '../../support/kernel-test.js';

const names: readonly [string, string][] = [
  ['an ordinary name', 'frame-0'],
  ['31 bytes', 'x'.repeat(31)],
  ['31 bytes in 15 characters and one', `${'é'.repeat(15)}x`],
  ['31 bytes with emoji', `${'🎞'.repeat(7)}abc`],
  ['the empty name', ''],
  ['a newline', 'a\nb'],
  ['a newline at the end', 'a\n'],
  ['only newlines', '\n\n\n'],
  ['blanks at both ends', ' \ta\t '],
  ['control characters', '\x01\x1b[31m\x7f'],
  ['a forged size', 'evil\nsize:\t1'],
  ['a forged exporter', 'evil\nexp_name:\tudmabuf'],
  ['a forged count', '\ncount:\t99'],
  ['a forged name', '\nname:\tother'],
  ['a forged inode', '\nino:\t4711'],
  ['a path', '../../etc/passwd'],
];
for (const [what, name] of names) {
  kernelTest(`setName takes ${what}`, () => {
    using buffer = allocateSync(8192);
    buffer.setName(name);
    assert.equal(buffer.info().name, name);
  });

  kernelTest(`${what} changes no other field`, () => {
    using buffer = allocateSync(8192);
    const before = buffer.info();
    buffer.setName(name);
    assert.deepEqual(buffer.info(), { ...before, name });
  });
}

kernelTest('a name replaces the one before', () => {
  using buffer = allocateSync(4096, { name: 'a much longer name' });
  buffer.setName('b');
  assert.equal(buffer.info().name, 'b');
});

kernelTest('the empty name replaces the one before', () => {
  using buffer = allocateSync(4096, { name: 'a' });
  buffer.setName('');
  assert.equal(buffer.info().name, '');
});

kernelTest('a name that is refused leaves the one before', () => {
  using buffer = allocateSync(4096, { name: 'before' });
  assert.throws(() => buffer.setName('x'.repeat(32)));
  assert.equal(buffer.info().name, 'before');
});

kernelTest('a name is seen through every descriptor of the buffer', () => {
  using buffer = allocateSync(4096);
  using copy = buffer.dup();
  copy.setName('shared');
  assert.equal(buffer.info().name, 'shared');
});

kernelTest('a read-only descriptor can name the buffer', () => {
  using buffer = allocateSync(4096, { access: 'read', name: 'for looking' });
  assert.equal(buffer.info().name, 'for looking');
});

/** Any names that the kernel takes: at most 31 bytes of UTF-8 without NUL. */
function cut(text: string): string {
  let name = '';
  for (const character of text.replaceAll('\0', '')) {
    if (Buffer.byteLength(name + character) > 31) break;
    name += character;
  }
  return name;
}
const anyName = fc
  .oneof(
    fc.string({ unit: 'binary', maxLength: 31 }),
    fc.string({ unit: 'grapheme', maxLength: 31 }),
    fc
      .array(
        fc.constantFrom(
          '\n',
          'name:\t',
          'size:\t',
          'count:\t',
          'ino:\t',
          'exp_name:\t',
          'flags:\t',
          '0',
          '7',
          'é',
        ),
        {
          maxLength: 9,
        },
      )
      .map((parts) => parts.join('')),
  )
  .map(cut);

const numRuns = 300;

kernelTest('whatever the name, info gives it back and the rest as it was', () => {
  using buffer = allocateSync(8192);
  const before = buffer.info();
  fc.assert(
    fc.property(anyName, (name) => {
      buffer.setName(name);
      assert.deepEqual(buffer.info(), { ...before, name } satisfies DmaBufInfo);
    }),
    { numRuns },
  );
});

kernelTest("whatever the name, readFdInfo and parseFdInfo of the file's text agree", () => {
  using buffer = allocateSync(8192);
  fc.assert(
    fc.property(anyName, (name) => {
      buffer.setName(name);
      const path = `/proc/self/fdinfo/${buffer.fd}`;
      const read = readFdInfo('self', buffer.fd);
      assert.deepEqual(read, buffer.info());
      assert.deepEqual(parseFdInfo(readFileSync(path)), read);
      assert.deepEqual(parseFdInfo(readFileSync(path, 'utf8')), read);
    }),
    { numRuns },
  );
});

kernelTest("readFdInfo takes the process's own number too", () => {
  using buffer = allocateSync(4096, { name: 'a' });
  assert.deepEqual(readFdInfo(process.pid, buffer.fd), readFdInfo('self', buffer.fd));
});
