import assert from 'node:assert/strict';
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ChannelMessage, DmaBufChannel } from 'dmabuf';
import { sources } from './compiled.js';
import { packageRoot } from './programs.js';

// Programs at the other end of a channel: in C, in Python, or another Node. They answer on their standard output what
// they are asked on their standard input, a line each. A line that begins with "!" is no answer: something happened.

/** Milliseconds until a test that waits for another process gives up: it would never end otherwise. */
export const patience = 30_000;

/** The path of a program in another language, or of a compiled one in TypeScript. */
export function programFile(name: string): string {
  return name.includes('.')
    ? join(sources, name)
    : fileURLToPath(new URL(`./programs/${name}.js`, import.meta.url));
}

export class Peer implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  readonly #events: string[] = [];
  #rest = '';
  #errors = '';
  #wake = (): void => {};
  /** Its exit status, or the signal that ended it. */
  readonly ended: Promise<number | string>;

  /** Starts a program. It gets `channel` as its descriptor 3, and the caller keeps its own. */
  constructor(
    command: string,
    args: readonly string[],
    channel?: DmaBufChannel | number,
    options: SpawnOptions = {},
  ) {
    const fd = typeof channel === 'object' ? channel.fd : channel;
    const stdio: SpawnOptions['stdio'] = ['pipe', 'pipe', 'pipe'];
    if (fd !== undefined) stdio.push(fd);
    this.#child = spawn(command, args, { cwd: packageRoot, ...options, stdio });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop() as string;
      for (const line of lines) (line.startsWith('!') ? this.#events : this.#lines).push(line);
      this.#wake();
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errors += text;
    });
    this.#child.stdin?.on('error', () => {}); // It has ended.
    this.ended = new Promise((resolve, reject) => {
      this.#child.once('error', reject);
      this.#child.once('close', (status, signal) => {
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

  /** What it has written on its standard error. */
  get errors(): string {
    return this.#errors;
  }

  /** Answers and events that have come and were not asked for yet. */
  get unread(): readonly string[] {
    return [...this.#lines, ...this.#events];
  }

  /** Its next answer. */
  line(): Promise<string> {
    return this.#next(this.#lines);
  }

  /** The next thing that it says of its own accord. */
  event(): Promise<string> {
    return this.#next(this.#events);
  }

  async #next(from: string[]): Promise<string> {
    let over: string | undefined;
    const timer = setTimeout(() => {
      over = 'said nothing';
      this.#wake();
    }, patience);
    this.ended.then((how) => {
      over ??= `ended with ${how}`;
      this.#wake();
    });
    for (;;) {
      const line = from.shift();
      if (line !== undefined) {
        clearTimeout(timer);
        return line;
      }
      if (over !== undefined) {
        clearTimeout(timer);
        assert.fail(`${this.#child.spawnargs.join(' ')} ${over}\n${this.#errors}`);
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  tell(command: string): void {
    this.#child.stdin?.write(`${command}\n`);
  }

  /** Has it do something, and resolves with its answer. */
  ask(command: string): Promise<string> {
    this.tell(command);
    return this.line();
  }

  /** Has it do something that it answers with `ok`. */
  async have(command: string): Promise<void> {
    assert.equal(await this.ask(command), 'ok', command);
  }

  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    this.#child.kill(signal);
  }

  /** Closes its standard input, which ends it. */
  finish(): Promise<number | string> {
    this.#child.stdin?.end();
    return this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill();
    await this.ended;
  }
}

/** Another Node that runs a program of `test/support/programs`. */
export function nodePeer(name: string, args: readonly string[] = [], channel?: DmaBufChannel | number): Peer {
  return new Peer(process.execPath, [programFile(name), ...args], channel);
}

/** The next message: there must be one. */
export async function receiveFrom(channel: DmaBufChannel): Promise<ChannelMessage> {
  const message = await channel.receive({ timeout: patience });
  assert.ok(message !== undefined, 'the peer is gone');
  return message;
}

/** The text of the next message, which must bring no handles. */
export async function receiveText(channel: DmaBufChannel): Promise<string> {
  const { data, handles } = await receiveFrom(channel);
  assert.equal(handles.length, 0);
  return Buffer.from(data).toString('latin1');
}
