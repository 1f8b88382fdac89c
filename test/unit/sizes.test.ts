import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../support/programs.js';

interface Sizes {
  most: Record<string, number>;
  filesTooLong(root: string): string[];
}
const { most, filesTooLong } = (await import(join(packageRoot, 'scripts/sizes.mjs'))) as Sizes;

/** What is found among files of so many lines. */
function longAmong(files: Record<string, number>): string[] {
  const root = mkdtempSync(join(tmpdir(), 'dmabuf-sizes-'));
  try {
    for (const folder of Object.keys(most)) mkdirSync(join(root, folder, 'inner/build'), { recursive: true });
    for (const [path, lines] of Object.entries(files)) writeFileSync(join(root, path), '\n'.repeat(lines));
    return filesTooLong(root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

test('a file that is too long is found in every folder', () => {
  const files = { 'lib/inner/a.ts': 401, 'native/b.cc': 401, 'scripts/c.mjs': 401, 'test/inner/d.ts': 501 };
  assert.deepEqual(
    longAmong(files).map((found) => found.split(' ', 3).join(' ')),
    ['lib/inner/a.ts has 401', 'native/b.cc has 401', 'scripts/c.mjs has 401', 'test/inner/d.ts has 501'],
  );
});

test('what just fits, what is no source and what was built is not', () => {
  const files = { 'lib/a.ts': 400, 'test/b.ts': 500, 'lib/c.json': 999, 'test/inner/build/d.c': 999 };
  assert.deepEqual(longAmong(files), []);
});
