import assert from 'node:assert/strict';
import { PassThrough, Writable } from 'node:stream';
import { describe, it } from 'node:test';
import { forward } from '../../lib/vm/output.js';

const MARK = Buffer.from('\x1eend');

async function forwarded(...chunks: string[]): Promise<{ text: string; hasEnded: boolean }> {
  const from = new PassThrough();
  let text = '';
  let hasEnded = false;
  const to = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      text += chunk;
      done();
    },
  });
  const { ended, flushed } = forward(from, to, MARK, (error) => assert.fail(error));
  void ended.then(() => {
    hasEnded = true;
  });
  for (const chunk of chunks) {
    from.write(chunk);
    await new Promise((resolve) => setImmediate(resolve));
  }
  from.end();
  await new Promise((resolve) => from.once('close', resolve));
  await flushed();
  return { text, hasEnded };
}

describe("the guest's output", () => {
  for (const [what, chunks, text, hasEnded] of [
    ['ends with the mark, which is not passed on', ['one\n', 'two\n\x1eend'], 'one\ntwo\n', true],
    ['may have the mark in pieces', ['one\n\x1e', 'e', 'nd'], 'one\n', true],
    ['may be nothing but the mark', ['\x1eend'], '', true],
    ['may hold a piece of the mark', ['a\x1een', 'b\x1e', 'c\x1e\x1eend'], 'a\x1eenb\x1ec\x1e', true],
    ['of a guest that has crashed is passed on to its last byte', ['one', '\x1een'], 'one\x1een', false],
  ] as const) {
    it(what, async () => assert.deepEqual(await forwarded(...chunks), { text, hasEnded }));
  }
});
