import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { packageRoot } from '../support/programs.js';

interface English {
  faultsIn(text: string): { line: number; found: string; instead: string }[];
  report(): string[];
}

const script = pathToFileURL(join(packageRoot, 'scripts/english.mjs')).href;
const { faultsIn, report } = (await import(script)) as English;
const found = (text: string): string[] => faultsIn(text).map((fault) => fault.found);

describe('the check of the English', () => {
  it('refuses a word, and says where it is and what to write', () => {
    assert.deepEqual(faultsIn('One.\nHow it shall be.\n'), [
      { line: 2, found: 'shall', instead: 'must, will' },
    ]);
  });

  it('finds a phrase over two lines of a comment', () => {
    assert.deepEqual(found('  /**\n   * Killed for\n   * want of memory.\n   */'), ['for want of']);
    assert.deepEqual(found('// Nobody waits any\n// more.'), ['any more']);
  });

  it('leaves good English alone', () => {
    assert.deepEqual(
      found('No more than any more recent kernel. It has not signalled; shallow, amended.'),
      [],
    );
  });

  it('skips code', () => {
    assert.deepEqual(found('`shall`\n```sh\nmend\n```\n'), []);
  });

  it('finds nothing in the documents and the sources', () => {
    assert.deepEqual(report(), []);
  });
});
