import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { SUBCOMMANDS } from '../../lib/cli/subcommands.js';
import { packageRoot } from '../support/programs.js';

// How each subcommand ends when it cannot write, or when the terminal goes away.

const main = join(packageRoot, 'dist/package/cli.js');

/** Commands of every kind that print something on any Linux. */
const printing: readonly (readonly string[])[] = [
  ['--help'],
  ['--version'],
  ...SUBCOMMANDS.map(({ name }) => [name, '--help']),
  ['heaps'],
  ['heaps', '--json'],
  ['ls', '--source', 'procfs'],
  ['ls', '--source', 'procfs', '--csv'],
  ['ps', '--source', 'procfs'],
  ['ps', '--source', 'procfs', '--json'],
  ['top', '--source', 'procfs', '--once'],
  ['top', '--source', 'procfs', '--iterations', '2', '--interval', '0', '--json'],
  ['diff', '--source', 'procfs', '--interval', '0'],
  ['doctor'],
  ['completion', 'bash'],
];

function run(args: readonly string[], stdio: (number | 'ignore' | 'pipe')[]): [number | null, string] {
  const { status, signal, stderr } = spawnSync(process.execPath, [main, ...args], {
    encoding: 'utf8',
    cwd: packageRoot,
    stdio,
  });
  assert.equal(signal, null);
  return [status, stderr];
}

describe('a command whose output cannot be written', () => {
  for (const args of printing) {
    it(`says so in a line, with status 2: dmabuf ${args.join(' ')}`, () => {
      const full = openSync('/dev/full', 'w');
      const [status, stderr] = run(args, ['ignore', full, 'pipe']);
      closeSync(full);
      assert.equal(status, 2, stderr);
      assert.match(stderr, /^dmabuf[^:\n]*: ENOSPC: [^\n]+$/m);
      assert.doesNotMatch(stderr, /\n {4}at /);
    });
  }

  it('is an error of the file when that is where the answer goes', () => {
    const [status, stderr] = run(
      ['diff', '--source', 'procfs', '--interval', '0', '--output', '/dev/full'],
      ['ignore', 'ignore', 'pipe'],
    );
    assert.equal(status, 2);
    assert.match(stderr, /^dmabuf diff: ENOSPC: [^\n]+$/m);
  });
});

describe('dmabuf diff', () => {
  for (const [what, command, expected] of [
    ['there is not', ['/no/such/program'], 127],
    ['has no name', [''], 127],
    ['is a folder', ['/'], 126],
    ['would be below a file', ['/etc/passwd/program'], 126],
    ['has a name that is too long', ['x'.repeat(5000)], 126],
  ] as const) {
    it(`compares all the same, with status ${expected}, where the command ${what}`, () => {
      const { status, stdout, stderr } = spawnSync(
        process.execPath,
        [main, 'diff', '--source', 'procfs', '--quiet', '--', ...command],
        { encoding: 'utf8', cwd: packageRoot },
      );
      assert.equal(status, expected, stderr);
      assert.match(stdout, /^total: /m);
    });
  }
});

describe('colours', () => {
  for (const args of printing) {
    it(`are for terminals, whatever FORCE_COLOR says: dmabuf ${args.join(' ')}`, () => {
      const { stdout, stderr } = spawnSync(process.execPath, [main, ...args], {
        encoding: 'utf8',
        cwd: packageRoot,
        env: { ...process.env, FORCE_COLOR: '1', NO_COLOR: '1', NODE_NO_WARNINGS: '1' },
      });
      assert.equal((stdout + stderr).includes('\x1b'), false);
    });
  }
});

describe('a command whose errors cannot be written', () => {
  for (const args of [
    ['ls', '--bogus'],
    ['show', '2147483647'],
    ['ls', '--source', 'sysfs'],
  ]) {
    it(`has its status all the same: dmabuf ${args.join(' ')}`, () => {
      const full = openSync('/dev/full', 'w');
      const [status] = run(args, ['ignore', 'ignore', full]);
      closeSync(full);
      assert.equal(status, 2);
    });
  }
});

describe('a command whose reader goes away', () => {
  for (const args of printing) {
    it(`ends without a word, with status 141: dmabuf ${args.join(' ')}`, () => {
      // The reading end is closed before anything is written.
      const { output } = spawnSync(
        'bash',
        [
          '-c',
          'exec 4> >(exec true); wait $!; "$@" >&4; echo $? >&3',
          'bash',
          process.execPath,
          main,
          ...args,
        ],
        { encoding: 'utf8', cwd: packageRoot, stdio: ['ignore', 'ignore', 'pipe', 'pipe'] },
      );
      assert.equal(output[3]?.trim(), '141', output[2] ?? '');
      assert.doesNotMatch(output[2] ?? '', /EPIPE|\n {4}at /);
    });
  }
});

describe('dmabuf top', () => {
  for (const [what, args] of [
    ['live', ['--interval', '0.1']],
    ['paused', []],
  ] as const) {
    it(`ends by SIGHUP when its terminal goes away: ${what}`, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
      const status = join(folder, 'status');
      // The shell outlives the terminal to tell how it ended.
      const command = `trap '' HUP; '${process.execPath}' '${main}' top --source procfs ${args.join(' ')} 2> '${folder}/errors'; echo $? > '${status}.new'; mv '${status}.new' '${status}'`;
      const terminal = spawn('script', ['-qefc', command, '/dev/null'], {
        stdio: ['pipe', 'pipe', 'inherit'],
        env: { PATH: process.env.PATH, SHELL: '/bin/sh', TERM: 'xterm' },
      });
      let shown = '';
      for await (const data of terminal.stdout) {
        shown += data;
        if (shown.includes('q: quit')) break;
      }
      if (what === 'paused') terminal.stdin.write(' ');
      terminal.kill('SIGKILL');
      while (!existsSync(status)) await new Promise((resolve) => setImmediate(resolve));
      assert.equal(readFileSync(status, 'utf8').trim(), '129');
      assert.match(
        readFileSync(join(folder, 'errors'), 'utf8'),
        /^(Hangup\n)?$/,
        'what the shell says of it alone',
      );
      rmSync(folder, { recursive: true });
    });
  }
});

describe('seconds', () => {
  for (const name of ['top', 'diff']) {
    it(`are what the help of ${name} shows, not milliseconds`, () => {
      const { stdout } = spawnSync(process.execPath, [main, name, '--help'], { encoding: 'utf8' });
      const [, shown] = /--interval <seconds>[^(]*\(default: (\d+)\)/.exec(stdout.replace(/\s+/g, ' ')) ?? [];
      assert.ok(Number(shown) <= 10, shown);
    });
  }
});
