// dmabuf vm --shell on a real pseudo-terminal.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { packageRoot } from '../support/programs.js';
import { Terminal } from '../support/terminal.js';

const main = join(packageRoot, 'dist/package/cli.js');
const { HOME = '/', XDG_CACHE_HOME } = process.env;
const env = { HOME, ...(XDG_CACHE_HOME === undefined ? {} : { XDG_CACHE_HOME }) };

/** Runs a command in a guest, on a terminal; says when the terminal has its modes back, for which it waits. */
function shell(command: string): Terminal {
  const runner = `exec '${process.execPath}' '${main}' vm --kernel stable --cpus 1 --shell -- ${command}`;
  return new Terminal(
    'echo "on $(tty)."; before=$(stty -g); ' +
      `sh -c 'echo "runner $$."; ${runner.replaceAll("'", "'\\''")}'; echo "status $?"; ` +
      'until [ "$before" = "$(stty -g)" ]; do :; done; echo restored',
    env,
  );
}

async function startOf(terminal: Terminal, text: string): Promise<{ tty: string; runner: number }> {
  const shown = await terminal.until('runner ', text);
  const [, tty = '', runner] = /on (\S+)\.\r\n.*?runner (\d+)\./s.exec(shown) ?? [];
  return { tty, runner: Number(runner) };
}

/** Sets up a screen of its own, and does not undo it. */
const DRAWS = `sh -c "printf '\\033[?1049h\\033[?25l'; echo drawn; exec cat"`;
const UNDONE = '\x1b[?25h\x1b[?1049l';

function childOf(pid: number, name: string): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
  const child = children.find((one) => readFileSync(`/proc/${one}/comm`, 'utf8').startsWith(name));
  assert.ok(child !== undefined, `there is no ${name} below ${pid}`);
  return child;
}

describe('dmabuf vm --shell', { concurrency: 2 }, () => {
  it('gives the command a terminal: its size, every key, and the end of the input', async () => {
    const program = `
      const { stdin, stdout } = process;
      process.on("SIGINT", () => console.log("interrupted"));
      stdout.on("resize", () => console.log("resized " + stdout.columns + " " + stdout.rows));
      stdin.on("data", (data) => console.log("typed " + String(data).trim()));
      stdin.on("end", () => { console.log("end of the input"); process.exit(5); });
      console.log("started " + stdin.isTTY + " " + stdout.columns + " " + stdout.rows);`;
    const terminal = shell(`'${process.execPath}' -e '${program}'`);
    const { tty } = await startOf(terminal, 'started true 70 20');
    execFileSync('stty', ['-F', tty, 'cols', '90', 'rows', '30']);
    await terminal.until('resized 90 30');
    terminal.type('\x03');
    await terminal.until('^C', 'interrupted');
    terminal.type('word\r');
    await terminal.until('typed word');
    terminal.type('\x04');
    await terminal.until('end of the input', 'status 5', 'restored');
  });

  it('leaves the size alone where the terminal knows none', async () => {
    const runner = `'${process.execPath}' '${main}' vm --kernel stable --cpus 1 --shell -- echo reached`;
    const terminal = new Terminal(`stty rows 0 cols 0; ${runner}; echo "status $?"`, env);
    const shown = await terminal.until('reached', 'status 0');
    assert.doesNotMatch(shown, /stty:/);
  });

  it('is a prompt when there is no command', async () => {
    const terminal = new Terminal(
      `'${process.execPath}' '${main}' vm --kernel stable --shell; echo "status $?"`,
      env,
    );
    // That of /bin/sh, for root.
    await terminal.until('# ');
    terminal.type('echo "$DMABUF_VM$((40 + 2))"; exit 3\r');
    await terminal.until('142', 'status 3');
  });

  for (const [what, status, end] of [
    ['SIGTERM', 143, (runner: number) => process.kill(runner, 'SIGTERM')],
    ['the end of QEMU', 125, (runner: number) => process.kill(childOf(runner, 'qemu'), 'SIGKILL')],
  ] as const) {
    it(`gives the terminal back, screen and all, after ${what}`, async () => {
      const terminal = shell(DRAWS);
      const { runner } = await startOf(terminal, 'drawn');
      end(runner);
      const shown = await terminal.until(`status ${status}`, 'restored');
      assert.ok(shown.includes(UNDONE), JSON.stringify(shown));
    });
  }

  it('gives the terminal back when the runner is killed', async () => {
    const terminal = shell(DRAWS);
    const { runner } = await startOf(terminal, 'drawn');
    process.kill(runner, 'SIGKILL');
    await terminal.until('status 137', 'restored');
  });

  it('ends at Ctrl-] pressed three times, and not at two', async () => {
    const terminal = shell(DRAWS);
    await startOf(terminal, 'drawn');
    terminal.type('\x1d\x1d-\r');
    await terminal.until('^]^]-');
    for (const key of ['\x1d', '\x1d', '\x1d']) terminal.type(key);
    await terminal.until('Ctrl-] was pressed three times', 'status 125', 'restored');
  });
});
