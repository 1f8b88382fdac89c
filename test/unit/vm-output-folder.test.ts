// What a guest wrote, as QEMU leaves it behind: plain files and folders, and beside them what they are for the guest.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { type OutputFolder, openOutput } from '../../lib/vm/output-folder.js';
import { packageRoot } from '../support/programs.js';

let base: string;
let target: string;
let output: OutputFolder;
let told: string[];

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'dmabuf-output-'));
  target = join(base, 'results');
  output = openOutput(target, '/');
  told = [];
});
afterEach(() => rmSync(base, { recursive: true }));

/** As QEMU writes it. */
function made(path: string, content: string, mode: number): void {
  const file = join(output.share, path);
  const attributes = join(dirname(file), '.virtfs_metadata');
  mkdirSync(attributes, { recursive: true });
  writeFileSync(join(attributes, basename(file)), `virtfs.uid=1000\nvirtfs.gid=0\nvirtfs.mode=${mode}\n`);
  if ((mode & 0o170000) === 0o040000) mkdirSync(file, { mode: 0o700 });
  else writeFileSync(file, content, { mode: 0o600 });
}

function collect(): void {
  output.collect((message) => told.push(message));
}

const modeOf = (name: string): string => (lstatSync(join(target, name)).mode & 0o7777).toString(8);

describe('what a guest wrote', () => {
  it('comes to the folder, and nothing else is left there', () => {
    made('one', 'first', 0o100644);
    made('sub', '', 0o040755);
    made('sub/two', 'second', 0o100644);
    made('sub/latest', 'two', 0o120777);
    collect();
    assert.deepEqual(readdirSync(target, { recursive: true }).sort(), [
      'one',
      'sub',
      'sub/latest',
      'sub/two',
    ]);
    assert.equal(readFileSync(join(target, 'sub/two'), 'utf8'), 'second');
    assert.equal(readlinkSync(join(target, 'sub/latest')), 'two');
    assert.deepEqual(told, [`3 files came to ${target}`]);
  });

  it('takes the place of what was there, and of nothing besides', () => {
    mkdirSync(join(target, 'sub'));
    writeFileSync(join(target, 'sub/old'), 'kept');
    writeFileSync(join(target, 'sub/same'), 'before');
    made('sub', '', 0o040755);
    made('sub/same', 'after', 0o100644);
    collect();
    assert.equal(readFileSync(join(target, 'sub/old'), 'utf8'), 'kept');
    assert.equal(readFileSync(join(target, 'sub/same'), 'utf8'), 'after');
  });

  it('may be run and read as in the guest, gives nobody the rights of its owner, and lets nobody else write', () => {
    made('program', '', 0o104777);
    made('secret', '', 0o100600);
    made('locked', '', 0o040000);
    made('locked/file', '', 0o100000);
    collect();
    assert.deepEqual(['program', 'secret', 'locked', 'locked/file'].map(modeOf), [
      '755',
      '600',
      '700',
      '600',
    ]);
  });

  for (const [what, link] of [
    ['to an absolute path', '/etc/passwd'],
    ['to a folder above', '../../results/x'],
    ['that goes up in the middle', 'sub/../../x'],
    ['to nothing', ''],
  ] as const) {
    it(`is left out, and said to be: a link ${what}`, () => {
      made('link', link, 0o120777);
      collect();
      assert.deepEqual(readdirSync(target), []);
      assert.match(told.join('\n'), /left out: .*\/link$/m);
    });
  }

  for (const [what, type] of [
    ['a character device', 0o020000],
    ['a block device', 0o060000],
    ['a FIFO', 0o010000],
    ['a socket', 0o140000],
  ] as const) {
    it(`is left out, and said to be: ${what}`, () => {
      made('special', '', type | 0o666);
      collect();
      assert.deepEqual(readdirSync(target), []);
      assert.match(told.join('\n'), /left out: .*\/special$/m);
    });
  }

  it('never goes through a link that is there, and stays where it is, with a message', () => {
    const outside = join(base, 'outside');
    mkdirSync(outside);
    writeFileSync(join(outside, 'file'), 'untouched');
    symlinkSync(outside, join(target, 'sub'));
    symlinkSync(join(outside, 'file'), join(target, 'file'));
    made('sub', '', 0o040755);
    made('sub/file', 'new', 0o100644);
    made('file', 'new', 0o100644);
    assert.throws(collect, {
      code: 'ERR_DMABUF_VM_STORAGE',
      message: new RegExp(
        `the rest is in ${output.share}: ${target}/sub: a symbolic link of this name is in the way$`,
      ),
    });
    assert.deepEqual(readdirSync(outside), ['file']);
    assert.equal(readFileSync(join(outside, 'file'), 'utf8'), 'untouched');
    assert.equal(readFileSync(join(output.share, 'sub/file'), 'utf8'), 'new');
    // what lies in a file's own place is replaced, and not what it leads to
    assert.equal(readFileSync(join(target, 'file'), 'utf8'), 'new');
  });

  it('does not take the place of a folder', () => {
    mkdirSync(join(target, 'folder/kept'), { recursive: true });
    made('folder', '', 0o100644);
    made('other', '', 0o100644);
    assert.throws(collect, { message: /\/folder: a folder of this name is in the way/ });
    assert.deepEqual(readdirSync(join(target, 'folder')), ['kept']);
    assert.ok(lstatSync(join(target, 'other')).isFile());
  });

  it('may have names that are no text, and none that can drive a terminal', () => {
    const names = [Buffer.from([0xff, 0xfe]), Buffer.from('new\nline\x1b[31m'), Buffer.from(' \\')];
    for (const name of names) writeFileSync(Buffer.concat([Buffer.from(`${output.share}/`), name]), '');
    made('a\x1b[31m', '', 0o010666);
    collect();
    const came = readdirSync(target, { encoding: 'buffer' }) as unknown as Buffer[];
    assert.deepEqual(came.sort(Buffer.compare), names.sort(Buffer.compare));
    assert.match(told.join('\n'), /a\\x1b\[31m/);
  });

  it('may have no notes of QEMU beside it', () => {
    writeFileSync(join(output.share, 'file'), 'x', { mode: 0o600 });
    collect();
    assert.equal(modeOf('file'), '644');
  });
});

describe('--output', () => {
  for (const [what, path, message] of [
    ['a file', '/etc/passwd', /output \(--output\): \/etc\/passwd cannot be written: ENOTDIR/],
    ['a folder in a file', '/etc/passwd/x', /cannot be written: ENOTDIR/],
    ['a folder that cannot be made', '/proc/1/x', /\/proc\/1\/x cannot be written: /],
    ['an empty path', '', /output must be the path of a folder/],
    ['the folder in which the command starts', '.', /the command starts in .*, which an empty .* would hide/],
    ['one above it', '/', /would hide/],
  ] as const) {
    it(`refuses ${what} with status 125`, () => {
      const main = join(packageRoot, 'dist/package/cli.js');
      const { status, stderr } = spawnSync(process.execPath, [main, 'vm', '--output', path, '--', 'true'], {
        encoding: 'utf8',
        cwd: base,
      });
      assert.match(stderr, message);
      assert.equal(status, 125);
    });
  }
});
