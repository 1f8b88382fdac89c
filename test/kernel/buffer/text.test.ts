// buffer.text(), and what must never be done instead.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { allocateSync, type DmaBuf } from 'dmabuf';
import { allBlocks } from '../../support/documents.js';
import { throwsCode } from '../../support/expect.js';
import { kernelTest } from '../../support/kernel-test.js';
import { nodePeer } from '../../support/peers.js';
import { packageRoot } from '../../support/programs.js';

function withText(text: string, body: (buffer: DmaBuf) => void): void {
  using buffer = allocateSync(4096);
  buffer.write(Buffer.from(text));
  body(buffer);
}

kernelTest('text() is the whole buffer as UTF-8', () => {
  withText('naïve 中', (buffer) => {
    const text = buffer.text();
    assert.equal(text.replace(/\0+$/, ''), 'naïve 中');
    assert.equal(Buffer.byteLength(text), 4096);
  });
});

kernelTest('text() takes a position and a length in bytes', () => {
  withText('hello world', (buffer) => assert.equal(buffer.text({ position: 6, length: 5 }), 'world'));
});

kernelTest('text() ends with the buffer, and is empty beyond it', () => {
  withText('', (buffer) => {
    assert.equal(buffer.text({ position: 4090, length: 100 }).length, 6);
    assert.equal(buffer.text({ position: 10_000 }), '');
  });
});

kernelTest('text() decodes latin1', () => {
  using buffer = allocateSync(4096);
  buffer.write(Uint8Array.of(0xe4, 0xff));
  assert.equal(buffer.text({ length: 2, encoding: 'latin1' }), 'äÿ');
});

kernelTest('text() turns what is no UTF-8 into U+FFFD', () => {
  using buffer = allocateSync(4096);
  buffer.write(Uint8Array.of(0xff, 0x61));
  assert.equal(buffer.text({ length: 2 }), '\uFFFDa');
});

kernelTest('text() refuses other encodings, negative positions and options that do not exist', () => {
  withText('', (buffer) => {
    throwsCode(() => buffer.text({ encoding: 'hex' as 'utf8' }), 'ERR_OUT_OF_RANGE');
    throwsCode(() => buffer.text({ position: -1 }), 'ERR_OUT_OF_RANGE');
    throwsCode(() => buffer.text({ lenght: 1 } as object), 'ERR_INVALID_ARG_VALUE');
  });
});

kernelTest('text() works on a descriptor that may only be read', () => {
  using buffer = allocateSync(4096, { access: 'read' });
  assert.equal(buffer.text({ length: 1 }), '\0');
});

kernelTest('text() survives a peer that changes the bytes between one and three a character', async () => {
  using buffer = allocateSync(1 << 16);
  await using peer = nodePeer('rewrites', [], buffer.fd);
  assert.equal(await peer.line(), 'rewriting');
  for (let round = 0; round < 400; round++) assert.ok(buffer.text().length > 0);
});

// ---------- what the library, its examples and its documents say

/** A call that makes a string or an object of bytes, on something that is named like mapped memory. */
const decodesMapping =
  /\b(?:bytes|mapping|mapped|map\(\)|view)(?:\.\w+)*\.(?:toString|utf8Slice|latin1Slice|toLocaleString|join)\(|(?:decode|Buffer\.from|JSON\.stringify|String)\(\s*(?:\w+\.)*(?:bytes|mapping|mapped)\b/;

function sources(folder: string): string[] {
  return (readdirSync(join(packageRoot, folder), { recursive: true }) as string[])
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name));
}

test('the check finds what it is there for', () => {
  for (const bad of [
    "m.bytes.toString('utf8')",
    'new TextDecoder().decode(mapping.bytes)',
    'bytes.toString()',
  ]) {
    assert.match(bad, decodesMapping);
  }
});

for (const folder of ['examples']) {
  for (const file of sources(folder)) {
    test(`${file} decodes no mapped bytes`, () => {
      assert.doesNotMatch(readFileSync(join(packageRoot, file), 'utf8'), decodesMapping);
    });
  }
}

for (const { document, line, language, code } of allBlocks()) {
  if (language !== 'js' && language !== 'ts') continue;
  test(`${document}:${line} decodes no mapped bytes`, () => assert.doesNotMatch(code, decodesMapping));
}
