import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { packageRoot } from '../support/programs.js';

interface Release {
  refusals(folder: string, options?: { publish?: boolean }): string[];
  staleBinaries(folder: string): string[];
}
const { refusals, staleBinaries } = (await import(join(packageRoot, 'scripts/release.mjs'))) as Release;

const binaries = ['x64', 'arm64'].flatMap((arch) =>
  ['glibc', 'musl'].map((libc) => `prebuilds/linux-${arch}/dmabuf.${libc}.node`),
);

describe('npm run release', () => {
  let folder: string;

  function git(...args: string[]): void {
    const settings = ['user.name=t', 'user.email=t@example.org', 'commit.gpgSign=false', 'tag.gpgSign=false'];
    const options = settings.flatMap((setting) => ['-c', setting]);
    execFileSync('git', [...options, ...args], { cwd: folder, stdio: 'ignore' });
  }

  function write(path: string, text: string): void {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }

  function commit(): void {
    git('add', '.');
    git('commit', '-m', 'more');
  }

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-release-'));
    git('init');
    write('package.json', '{ "version": "1.2.3" }');
    write('CHANGELOG.md', '# Changelog\n\n## 1.2.3 - 2026-01-02\n\n- More.\n\n## 1.2.2\n');
    write('native/addon.cc', '');
    write('.gitignore', 'prebuilds/*/\n');
    commit();
    for (const path of binaries) write(path, '');
  });

  afterEach(() => rmSync(folder, { recursive: true }));

  test('refuses nothing where all is ready', () => {
    assert.deepEqual([...refusals(folder), ...staleBinaries(folder)], []);
  });

  test('refuses a tree with changes, or with files that git does not know', () => {
    write('native/new.cc', '');
    assert.deepEqual(refusals(folder), ['there are changes that are not committed']);
  });

  test('refuses a version that the changelog does not have as a section', () => {
    write('CHANGELOG.md', '# Changelog\n\n## Unreleased\n\n- Since 1.2.3.\n\n## 1.2.30\n\n## 11.2.3\n');
    commit();
    assert.deepEqual(refusals(folder), ['CHANGELOG.md has no section "## 1.2.3"']);
  });

  test('refuses a version that has its tag', () => {
    git('tag', 'v1.2.3');
    assert.deepEqual(refusals(folder), ['the tag v1.2.3 exists already']);
  });

  test('refuses to publish a package that names no repository', () => {
    assert.match(refusals(folder, { publish: true }).join(), /no repository/);
  });

  test('refuses when a binary is missing', () => {
    rmSync(join(folder, binaries[1] as string));
    assert.deepEqual(staleBinaries(folder), [`${binaries[1]} is missing`]);
  });

  test('refuses a binary that is older than the last change to its sources', () => {
    utimesSync(join(folder, binaries[2] as string), 1, 1);
    assert.deepEqual(staleBinaries(folder), [`${binaries[2]} is older than its sources`]);
  });
});
