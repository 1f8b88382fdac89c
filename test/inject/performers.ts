// Runs performer.ts, and another when one has died.

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Command, Reply } from './performer.js';
import type { Thoroughness } from './plan.js';

/** Who has not answered by then hangs: more than what a script takes to notice by itself. */
const endless = 150_000;

/** What became of the process, where it could not answer. */
export interface Death {
  readonly death: string;
  /** The last lines that it wrote. */
  readonly said: string;
}

export class Performers {
  #child: ChildProcess | undefined;
  #said = '';
  #answer: ((reply: Reply | Death) => void) | undefined;
  /** How many processes there have been. */
  started = 0;
  readonly #patience: number;

  constructor({ patience }: Pick<Thoroughness, 'patience'>) {
    this.#patience = patience;
  }

  #start(): ChildProcess {
    const program = fileURLToPath(new URL('./performer.js', import.meta.url));
    const child = spawn(process.execPath, ['--expose-gc', '--no-warnings', program], {
      stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
      env: { ...process.env, DMABUF_INJECT_PATIENCE: String(this.#patience) },
    });
    this.started++;
    this.#said = '';
    const listen = (text: string): void => {
      this.#said = (this.#said + text).slice(-2000);
    };
    child.stdout?.setEncoding('utf8').on('data', listen);
    child.stderr?.setEncoding('utf8').on('data', listen);
    createInterface({ input: child.stdio[3] as Readable }).on('line', (line) =>
      this.#tell(JSON.parse(line) as Reply),
    );
    child.on('close', (code, signal) => {
      if (this.#child !== child) return;
      this.#child = undefined;
      this.#tell({ death: signal === null ? `ended with ${code}` : `killed by ${signal}`, said: this.#said });
    });
    return child;
  }

  #tell(reply: Reply | Death): void {
    const answer = this.#answer;
    this.#answer = undefined;
    answer?.(reply);
  }

  /** Has the command done, by a new process where the last one has died. */
  async perform(command: Command): Promise<Reply | Death> {
    this.#child ??= this.#start();
    const child = this.#child;
    let timer: NodeJS.Timeout | undefined;
    const answer = new Promise<Reply | Death>((resolve) => {
      this.#answer = resolve;
      timer = setTimeout(() => {
        this.#child = undefined;
        child.kill('SIGKILL');
        resolve({ death: 'blocks the event loop for ever', said: this.#said });
      }, endless);
    });
    (child.stdin as Writable).write(`${JSON.stringify(command)}\n`);
    const reply = await answer;
    clearTimeout(timer);
    return reply;
  }

  /** Ends the process. */
  end(): void {
    const child = this.#child;
    this.#child = undefined;
    child?.kill('SIGKILL');
  }
}
