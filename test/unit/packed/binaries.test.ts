import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { packageRoot } from '../../support/programs.js';

type Check = (path: string, arch: string, libc: string) => void;

const script = pathToFileURL(join(packageRoot, 'scripts/binaries.mjs')).href;
const { checkBinary } = (await import(script)) as { checkBinary: Check };

const folder = mkdtempSync(join(tmpdir(), 'dmabuf-binaries-'));
after(() => rmSync(folder, { recursive: true }));

const start = 'void* napi_register_module_v1(void) { return malloc(1); }';

/** A library for this machine, of C that begins with the declaration of what it uses. */
function compile({ code = start, flags = ['-s'] }: { code?: string; flags?: string[] }): string {
  const source = join(folder, 'addon.c');
  const binary = join(folder, 'addon.node');
  writeFileSync(source, `#include <stdlib.h>\n${code}\n`);
  execFileSync('cc', ['-shared', '-fPIC', '-o', binary, source, ...flags], { stdio: 'pipe' });
  return binary;
}

const { arch } = process;
const other = arch === 'x64' ? 'arm64' : 'x64';

describe('the check of binaries', () => {
  test('accepts one that needs the C library alone', () => checkBinary(compile({}), arch, 'glibc'));

  test("refuses this machine's own build, which needs its C++ library", () => {
    const path = join(packageRoot, 'build/Release/dmabuf.node');
    assert.throws(() => checkBinary(path, arch, 'glibc'), {
      message:
        /^\S+\/dmabuf\.node is to need glibc alone, and needs libstdc\+\+\.so\.6; needs the versions GLIBCXX_/,
    });
  });

  const wrong: [title: string, Parameters<typeof compile>[0], args: [string, string], message: RegExp][] = [
    ['for another machine', {}, [other, 'glibc'], /is made for .+, not for /],
    ['for the other C library', {}, [arch, 'musl'], /is to need musl alone, and needs libc\.so\.6/],
    ['that needs nothing', { flags: ['-s', '-nostdlib'] }, [arch, 'glibc'], /does not name the C library/],
    ['with its symbols left in', { flags: [] }, [arch, 'glibc'], /is not stripped/],
    ['that Node finds no start in', { code: '' }, [arch, 'glibc'], /does not export napi_register_module_v1/],
    [
      'that exports more',
      { code: `${start} void stray(void) {}` },
      [arch, 'glibc'],
      /addon\.node exports stray$/,
    ],
    [
      'that needs a function of nobody',
      {
        code: `int absent(void); int uv_known(void); int more(void) { return absent() + uv_known(); } ${start}`,
      },
      [arch, 'glibc'],
      /needs the symbols absent$/,
    ],
    [
      'for a newer glibc',
      // the version of a function that every glibc since 2.36 has
      { code: `${start} void* more(void) { arc4random(); return 0; }` },
      [arch, 'glibc'],
      /needs the versions GLIBC_2\.36/,
    ],
  ];
  for (const [title, how, args, message] of wrong) {
    test(`refuses one ${title}`, () => assert.throws(() => checkBinary(compile(how), ...args), { message }));
  }

  test('refuses what is no binary', () =>
    assert.throws(() => checkBinary(join(packageRoot, 'package.json'), arch, 'glibc'), {
      message: /package\.json: readelf: Error: Not an ELF file/,
    }));
});
