import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { linksOf } from '../../support/documents.js';
import { packageRoot } from '../../support/programs.js';

interface Packed {
  size: number;
  files: { path: string; size: number }[];
}

function pack(): Packed {
  const args = ['pack', '--dry-run', '--json', '--ignore-scripts'];
  const output = execFileSync('npm', args, {
    cwd: packageRoot,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  // A list of packages until npm 11; from npm 12 on an object, by their names.
  const [packed] = Object.values(JSON.parse(output) as Record<string, Packed>);
  return packed as Packed;
}

const read = (path: string) => readFileSync(join(packageRoot, path), 'utf8');

/** The files of a folder, and of those below it, whose names end so. */
function filesOf(folder: string, ending: string): string[] {
  if (!existsSync(join(packageRoot, folder))) return [];
  return readdirSync(join(packageRoot, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name));
}

const manifest = JSON.parse(read('package.json')) as {
  exports: Record<string, string | { types: string; default: string }>;
  bin: Record<string, string>;
  man: string[];
  scripts: Record<string, string>;
  gypfile: boolean;
};
const entries = Object.values(manifest.exports).filter((entry) => typeof entry === 'object');
const binaries = filesOf('prebuilds', '.node');

describe('the package as npm packs it', () => {
  const { size, files } = pack();
  const paths = files.map(({ path }) => path);

  test('has what is run, what is read, what the addon is built from, and nothing else', () => {
    const documents = ['README', 'CHANGELOG', 'SECURITY', 'CONTRIBUTING'].map((name) => `${name}.md`);
    const expected = [
      'package.json',
      'LICENSE',
      'THIRD-PARTY-NOTICES.txt',
      ...documents,
      ...filesOf('docs', '.md'),
      ...filesOf('examples', '.ts'),
      ...filesOf('man', '.1'),
      ...filesOf('dist/package', '.js'),
      ...filesOf('dist/package', '.d.ts'),
      'native/binding.gyp',
      ...filesOf('native', '.cc'),
      ...filesOf('native', '.h'),
      'native/exports.map',
      ...filesOf('kernel-modules', ''),
      ...binaries,
    ];
    assert.deepEqual(paths.sort(), expected.sort());
  });

  test('has no binding.gyp in its root, which package managers take for something to build', () => {
    assert.deepEqual(
      paths.filter((path) => /^[^/]*\.gypi?$/.test(path)),
      [],
    );
  });

  test('has what its manifest names', () => {
    const code = entries.flatMap((entry) => Object.values(entry));
    for (const path of [...code, ...Object.values(manifest.bin), ...manifest.man]) {
      assert.ok(paths.includes(join(path)), path);
    }
  });

  for (const document of paths.filter((path) => path.endsWith('.md'))) {
    test(`has what its ${document} links to`, () => {
      const dead = linksOf(document)
        .map(({ path }) => path)
        .filter((to) => !paths.some((path) => path === to || path.startsWith(`${to}/`)));
      assert.deepEqual(dead, []);
    });
  }

  test('has no binaries but those of the four targets, as far as they were made', () => {
    const targets = ['x64', 'arm64'].flatMap((arch) =>
      ['glibc', 'musl'].map((libc) => `prebuilds/linux-${arch}/dmabuf.${libc}.node`),
    );
    assert.deepEqual(
      binaries.filter((path) => !targets.includes(path)),
      [],
    );
  });

  test('takes at most 1.5 MB, 0.5 MB of it without the binaries', () => {
    assert.ok(size <= (binaries.length > 0 ? 1_500_000 : 500_000), `${size} bytes`);
  });
});

describe('packing a clone', () => {
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-pack-'));
  after(() => rmSync(folder, { recursive: true }));

  test('that has no binaries is refused, with what to do', () => {
    for (const name of ['package.json', 'binding.gyp', 'native', 'scripts', 'lib']) {
      cpSync(join(packageRoot, name), join(folder, name), { recursive: true });
    }
    const { status, stderr } = spawnSync('npm', ['pack'], { cwd: folder, encoding: 'utf8' });
    assert.notEqual(status, 0);
    assert.match(stderr, /^prepack: refused: prebuilds\/linux-x64\/dmabuf\.glibc\.node is missing$/m);
    assert.match(stderr, /^prepack: refused: dist\/\.compiled is missing$/m);
    assert.match(stderr, /^prepack: npm run prebuild makes /m);
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.endsWith('.tgz')),
      [],
    );
  });
});

describe('installing the package', () => {
  test('runs nothing: npm does not ask for trust, and there is no compiler to miss', () => {
    const run = [
      'preinstall',
      'install',
      'postinstall',
      'prepublish',
      'preprepare',
      'prepare',
      'postprepare',
    ];
    assert.deepEqual(
      run.filter((name) => name in manifest.scripts),
      [],
    );
    // Else npm says, when it publishes from a clone, that there is something to build.
    assert.equal(manifest.gypfile, false);
  });

  test('asks neither for a platform nor for a C library: importing works everywhere, building from source too', () => {
    assert.deepEqual(
      ['os', 'cpu', 'libc'].filter((name) => name in manifest),
      [],
    );
  });

  test('gives the licences of what is compiled into the binaries', () => {
    const notices = read('THIRD-PARTY-NOTICES.txt');
    assert.ok(notices.includes(read('node_modules/node-addon-api/LICENSE.md').trim()));
    // npm run prebuild compares these with the files of the Zig that it uses.
    for (const name of ['libc++', 'libunwind', 'LLVM Exceptions to the Apache 2.0 License', 'Zig']) {
      assert.ok(notices.includes(name), name);
    }
  });
});
