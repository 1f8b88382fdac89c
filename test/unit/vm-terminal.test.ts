import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { ScreenModes } from '../../lib/vm/terminal.js';
import { packageRoot } from '../support/programs.js';

describe('dmabuf vm --shell', () => {
  const main = join(packageRoot, 'dist/package/cli.js');
  const vm = (...args: string[]): { status: number | null; stderr: string } =>
    spawnSync(process.execPath, [main, 'vm', ...args], { encoding: 'utf8' });

  it('refuses to run without a terminal', () => {
    const { status, stderr } = vm('--shell');
    assert.match(stderr, /--shell\) needs a terminal: standard input and standard output must be one/);
    assert.equal(status, 125);
  });

  it('refuses several kernels', () => {
    const { status, stderr } = vm('--shell', '--kernel', 'stable,newest');
    assert.match(stderr, /--shell takes one kernel, and --kernel names several/);
    assert.equal(status, 125);
  });

  it('is what a command may be left out for', () => {
    const { status, stderr } = vm('--kernel', 'stable');
    assert.match(stderr, /^error: missing required argument 'command'/);
    assert.equal(status, 125);
  });
});

describe('ScreenModes', () => {
  const undone = (...pieces: string[]): string => {
    const modes = new ScreenModes();
    for (const piece of pieces) modes.read(Buffer.from(piece, 'latin1'));
    return modes.undo();
  };

  it('has nothing to undo of plain text, and of what was undone', () => {
    assert.equal(undone('text \x1b[31mred\x1b[0m'), '');
    assert.equal(undone('\x1b[?1049h\x1b[?25l', 'drawing', '\x1b[?25h\x1b[?1049l'), '');
  });

  it('undoes what is left, the last first', () => {
    assert.equal(undone('\x1b[?1049h\x1b[?25l'), '\x1b[?25h\x1b[?1049l\x1b>\x1b[0m');
    assert.equal(undone('\x1b[?1000;1006h'), '\x1b[?1006l\x1b[?1000l\x1b>\x1b[0m');
  });

  it('knows a sequence that comes in pieces', () => {
    assert.equal(undone('a\x1b', '[', '?10', '49', 'h'), '\x1b[?1049l\x1b>\x1b[0m');
  });
});
