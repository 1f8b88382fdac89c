import assert from 'node:assert/strict';
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { packageRoot } from './programs.js';

/** Milliseconds until a test gives up that waits for a program to say something: emulated machines are slow. */
const patience = 120_000;

/** A program that runs until it is told to end, and says on its outputs how it fares. */
export class Service implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #said: string[] = [];
  #wake = (): void => {};
  #over = false;
  /** Its exit status, or the signal that ended it. */
  readonly ended: Promise<number | string>;

  constructor(command: string, args: readonly string[], options: SpawnOptions = {}) {
    this.#child = spawn(command, args, { cwd: packageRoot, ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      assert.ok(stream !== null);
      createInterface({ input: stream }).on('line', (line) => {
        this.#said.push(line);
        this.#wake();
      });
    }
    this.ended = new Promise((resolve, reject) => {
      this.#child.once('error', reject);
      this.#child.once('close', (status, signal) => {
        this.#over = true;
        resolve(signal ?? (status as number));
        this.#wake();
      });
    });
    this.ended.catch(() => {});
  }

  get pid(): number {
    assert.ok(this.#child.pid !== undefined);
    return this.#child.pid;
  }

  /** Every line so far of both outputs. */
  get said(): readonly string[] {
    return this.#said;
  }

  /** The first group of the first line that matches. */
  async says(pattern: RegExp): Promise<string> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#wake();
    }, patience);
    try {
      for (;;) {
        for (const line of this.#said) {
          const match = pattern.exec(line);
          if (match !== null) return match[1] ?? line;
        }
        const state = this.#over ? 'ended' : 'runs';
        assert.ok(!this.#over && !late, `it ${state} and has not said ${pattern}:\n${this.#said.join('\n')}`);
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Sends a signal, and resolves with how it has ended. */
  end(signal: NodeJS.Signals): Promise<number | string> {
    this.#child.kill(signal);
    return this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end('SIGKILL');
  }
}
