import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { packageRoot } from '../support/programs.js';

interface Packed {
  size: number;
  files: { path: string; size: number }[];
}

function pack(): Packed {
  const output = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: packageRoot,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return (JSON.parse(output) as Packed[])[0] as Packed;
}

describe('the package as npm packs it', () => {
  const { size, files } = pack();
  const paths = files.map(({ path }) => path);

  test('has what is run, what is read, and what the addon is built from', () => {
    const manifest = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
      exports: Record<string, string | { types: string; default: string }>;
      bin: Record<string, string>;
      man: string[];
    };
    const entries = Object.values(manifest.exports).flatMap((entry) =>
      typeof entry === 'string' ? [entry] : [entry.types, entry.default],
    );
    const named = [...entries, ...Object.values(manifest.bin), ...manifest.man];
    const needed = ['README.md', 'LICENSE', 'CHANGELOG.md', 'binding.gyp', 'native/addon.cc', ...named];
    for (const path of needed) assert.ok(paths.includes(path.replace(/^\.\//, '')), path);
  });

  test('has nothing else', () => {
    const expected =
      /^(dist\/lib|native|man|docs|prebuilds)\/|^(package\.json|binding\.gyp|README\.md|LICENSE|CHANGELOG\.md|SECURITY\.md)$/;
    assert.deepEqual(
      paths.filter((path) => !expected.test(path) || /\.test\.|\.map$|(^|\/)\./.test(path)),
      [],
    );
  });

  test('takes at most 1 MB', () => assert.ok(size <= 1_000_000, `${size} bytes`));
});
