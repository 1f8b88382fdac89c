// A pseudo-terminal, which script(1) makes.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { after } from 'node:test';

const terminals = new Set<ChildProcess>();
after(() => {
  for (const terminal of terminals) terminal.kill('SIGKILL');
});

/** A shell command in a pseudo-terminal, what it shows, and a keyboard. */
export class Terminal {
  #shown = '';
  #hasEnded = false;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown[]>;

  constructor(command: string, env: Record<string, string> = {}) {
    // A person's environment, whatever runs the tests: CI, TERM=dumb and others turn colours off.
    this.#child = spawn('script', ['-qefc', `stty cols 70 rows 20; ${command}`, '/dev/null'], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { PATH: process.env.PATH, SHELL: '/bin/sh', TERM: 'xterm', ...env },
    });
    terminals.add(this.#child);
    this.#child.stdout?.on('data', (data) => {
      this.#shown += data;
    });
    this.#ended = once(this.#child, 'close').finally(() => {
      this.#hasEnded = true;
    });
  }

  /** Waits until it has shown all of these texts, and returns what it has shown from the last time on. */
  async until(...texts: string[]): Promise<string> {
    while (!texts.every((text) => this.#shown.includes(text))) {
      assert.ok(!this.#hasEnded, `it ended with: ${JSON.stringify(this.#shown)}`);
      await Promise.race([once(this.#child.stdout as NodeJS.ReadableStream, 'data'), this.#ended]);
    }
    const shown = this.#shown;
    this.#shown = '';
    return shown;
  }

  /** Presses keys. */
  type(keys: string): void {
    this.#child.stdin?.write(keys);
  }

  /** What it has shown, and the status of the command. */
  async end(): Promise<{ shown: string; status: number }> {
    const [status] = await this.#ended;
    return { shown: this.#shown, status: status as number };
  }
}
