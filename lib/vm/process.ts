import { spawn } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Readable } from 'node:stream';

/** What a finished program left behind. */
export interface Finished {
  /** Exit status; `null` when a signal ended it. */
  status: number | null;
  stdout: Buffer;
  stderr: string;
}

/** Where a program is, looked up in `PATH` and then in the folders for administrators' programs. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  for (const folder of folders) {
    if (folder === '') continue;
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // not in this folder
    }
  }
  return undefined;
}

export interface RunOptions {
  cwd?: string;
  input?: Uint8Array;
  env?: NodeJS.ProcessEnv;
  /** Ends the program and what it has started: it is over, and so is their output, when the promise is rejected. */
  signal?: AbortSignal | undefined;
  /** When aborted, the program alone is interrupted, and ends in its own time: it must not be cut off. */
  mayFinish?: boolean;
  /** It is one of this terminal's: sudo knows by that who has given a password. Ctrl-C reaches it before it reaches us. */
  keepsTerminal?: boolean;
  /** Receives all of its output as it comes. */
  onOutput?: (chunk: Buffer) => void;
}

/** How long a program and what it has started may take to end when they are told to, in milliseconds. */
const END_WITHIN = 5000;

/** Runs a program to its end and collects its output; rejects only when it cannot be started or is aborted. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const { signal } = options;
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const child = spawn(program, args, {
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      env: { ...process.env, LC_ALL: 'C', ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      // A group of its own: Ctrl-C is for who has given a signal, and ends it in order, with all that it has started.
      detached: signal !== undefined && !options.keepsTerminal,
    });
    const send = (word: NodeJS.Signals, toAll: boolean): void => {
      try {
        if (child.pid !== undefined)
          process.kill(toAll && !options.keepsTerminal ? -child.pid : child.pid, word);
      } catch {
        // It has ended already, or is sudo, which is root's.
      }
    };
    let timer: NodeJS.Timeout | undefined;
    const onAbort = (): void => {
      if (options.mayFinish) send('SIGINT', false);
      else {
        send('SIGTERM', true);
        timer = setTimeout(() => send('SIGKILL', true), END_WITHIN);
      }
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    const finish = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    const collect = (stream: Readable): Buffer[] => {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        options.onOutput?.(chunk);
      });
      return chunks;
    };
    const stdout = collect(child.stdout);
    const stderr = collect(child.stderr);
    child.stdin.on('error', () => {}); // a program that does not read all its input closes the pipe
    child.stdin.end(options.input);
    child.on('error', (error) => {
      finish();
      reject(error);
    });
    child.on('close', (status) => {
      finish();
      if (signal?.aborted) reject(signal.reason as Error);
      else resolve({ status, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() });
    });
  });
}
