import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { completionScript } from '../../lib/cli/completion.js';
import { SUBCOMMANDS } from '../../lib/cli/subcommands.js';
import { packageRoot } from '../support/programs.js';

const main = join(packageRoot, 'dist/package/cli.js');

function dmabuf(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', cwd: packageRoot });
}

describe('help', () => {
  it('of the command names every subcommand', () => {
    const { status, stdout, stderr } = dmabuf('--help');
    assert.deepEqual([status, stderr], [0, '']);
    for (const { name, summary } of SUBCOMMANDS) {
      assert.match(stdout, new RegExp(`^  ${name} `, 'm'));
      assert.ok(stdout.replace(/\s+/g, ' ').includes(summary), name);
    }
  });

  for (const { name } of SUBCOMMANDS) {
    it(`of ${name} comes on standard output`, () => {
      const { status, stdout, stderr } = dmabuf(name, '--help');
      assert.deepEqual([status, stderr], [0, '']);
      assert.match(stdout, new RegExp(`^Usage: dmabuf ${name} `));
      if (name !== 'vm') assert.match(stdout, /\nExamples:\n {2}\S/);
    });
  }

  it('is on standard error with status 2 when there is no subcommand', () => {
    const { status, stdout, stderr } = dmabuf();
    assert.deepEqual([status, stdout], [2, '']);
    assert.match(stderr, /^Usage: dmabuf /);
  });

  it('-- before the subcommand changes nothing', () => {
    assert.match(dmabuf('--', 'ls', '--help').stdout, /^Usage: dmabuf ls /);
    const { status, stderr } = dmabuf('--', 'bogus');
    assert.deepEqual([status, stderr], [2, "error: unknown command 'bogus'\n"]);
  });

  it('--version prints the version of the package', () => {
    const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
      version: string;
    };
    const { status, stdout } = dmabuf('--version');
    assert.deepEqual([status, stdout], [0, `${version}\n`]);
  });
});

describe('an error of usage', () => {
  const mistakes: [string, string[]][] = [
    ['an unknown subcommand', ['bogus']],
    ['a sort column that there is not', ['ls', '--sort', 'colour']],
    ['a size without a number', ['ls', '--min-size', 'big']],
    ['a process id that is none', ['ls', '--pid', '1,x']],
    ['a process id too large', ['show', '4294967296']],
    ['no process id', ['show']],
    ['JSON and CSV at once', ['ps', '--json', '--csv']],
    ['too many arguments', ['ps', 'all']],
    ['a limit below zero', ['ps', '--limit', '-1']],
    ['an unknown shell', ['completion', 'tcsh']],
    ['permissions that are none', ['pin', '--mode', '999']],
    ['permissions to write for others', ['pin', '--mode', '0664']],
    ['permissions of what is removed', ['pin', '--remove', '--mode', '0440']],
    ['a group that there is not', ['pin', '--group', 'no-such-group']],
    ['an interval that is none', ['diff', '--interval', 'long']],
    ['top without a terminal', ['top']],
    ['JSON without end', ['top', '--json']],
    ['a question that the source cannot answer', ['ls', '--unheld', '--source', 'sysfs']],
  ];
  for (const [what, args] of mistakes) {
    it(`has status 2: ${what}`, () => {
      const { status, stdout, stderr } = dmabuf(...args);
      assert.deepEqual([status, stdout], [2, ''], stderr);
      assert.doesNotMatch(stderr, /\n {4}at /);
    });
  }
  for (const { name } of SUBCOMMANDS) {
    it(`has a status and no stack: an unknown option of ${name}`, () => {
      const { status, stderr } = dmabuf(name, '--bogus');
      assert.equal(status, name === 'vm' ? 125 : 2);
      assert.match(stderr, /^error: unknown option '--bogus'\n/);
    });
  }
});

describe('what is repeated of wrong arguments', () => {
  // As a shell's pattern makes them of the names of files.
  const hostile = '\x1b]0;x\x07\u202e\n\x9b2J';
  for (const args of [
    [hostile],
    [`--${hostile}`],
    ...SUBCOMMANDS.map(({ name }) => [name, `--${hostile}`]),
    ['heaps', hostile],
    ['completion', hostile],
    ['ls', '--pid', hostile],
    ['ls', '--source', hostile],
    ['metrics', '--listen', hostile],
    ['metrics', '--listen', `unix:/no/such/${hostile}`],
    ['metrics', '--allow-host', hostile],
    ['pin', '--group', hostile],
    ['diff', '--source', 'procfs', '--output', '/dev/null', '--', hostile],
    ['vm', '--kernel', `/no/such/${hostile}`, '--', 'true'],
  ]) {
    it(`cannot drive the terminal: dmabuf ${args.map((word) => JSON.stringify(word)).join(' ')}`, () => {
      const { status, stdout, stderr } = dmabuf(...args);
      assert.ok(status !== 0 && status !== null);
      assert.doesNotMatch(stdout + stderr, /(?!\n)[\p{Cc}\p{Cf}]/u);
    });
  }
});

describe('a completion script', () => {
  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    const missing = spawnSync(shell, ['-c', 'true']).error === undefined ? false : `there is no ${shell}`;

    it(`of ${shell} has every subcommand and option`, async () => {
      const script = await completionScript(shell, SUBCOMMANDS);
      for (const { name, load } of SUBCOMMANDS) {
        assert.ok(script.includes(name));
        for (const { long } of (await load()).options) {
          assert.ok(
            script.includes(shell === 'fish' ? `-l ${long?.slice(2)}` : (long as string)),
            `${name} ${long}`,
          );
        }
      }
    });

    it(`of ${shell} is understood by it`, { skip: missing }, async () => {
      const { status, stderr } = spawnSync(shell, ['-n'], {
        input: await completionScript(shell, SUBCOMMANDS),
        encoding: 'utf8',
        // Where the locale is not installed, bash says so.
        env: { PATH: process.env.PATH },
      });
      assert.deepEqual([status, stderr], [0, '']);
    });
  }

  const completions: [string, string[], string[]][] = [
    ['subcommands', ['d'], ['diff', 'doctor']],
    ['options', ['ls', '--min'], ['--min-size']],
    ['the values of an option', ['ps', '--sort', 'p'], ['pss', 'pid']],
    ['the words of an argument', ['completion', 'z'], ['zsh']],
  ];
  for (const [what, words, expected] of completions) {
    it(`completes ${what} in bash`, async () => {
      const script = `${await completionScript('bash', SUBCOMMANDS)}
        COMP_WORDS=(dmabuf "$@"); COMP_CWORD=$#; _dmabuf; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const { stdout } = spawnSync('bash', ['-c', script, 'bash', ...words], { encoding: 'utf8' });
      assert.deepEqual(stdout.trim().split('\n').sort(), expected.sort());
    });
  }
});

describe('the manual', () => {
  const page = readFileSync(join(packageRoot, 'man/dmabuf.1'), 'utf8').replaceAll('\\-', '-');
  for (const { name, load } of SUBCOMMANDS) {
    it(`has ${name} and each of its options`, async () => {
      const section = page.split(/^\.SS /m).find((part) => new RegExp(`^"?${name}\\b`).test(part));
      assert.ok(section !== undefined, 'no section');
      const common = page.split(/^\.S[HS] /m).find((part) => part.startsWith('COMMON OPTIONS')) ?? '';
      for (const { long } of (await load()).options) {
        const mention = new RegExp(`${long}(?![\\w-])`);
        assert.ok(mention.test(section) || mention.test(common), `${name} ${long}`);
      }
    });
  }
});
