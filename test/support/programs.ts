import assert from 'node:assert/strict';
import {
  type ChildProcessWithoutNullStreams,
  type SpawnOptions,
  type SpawnSyncOptions,
  spawn,
  spawnSync,
} from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** The package's own folder, where `import 'dmabuf'` finds it. */
export const packageRoot: string = fileURLToPath(new URL('../../..', import.meta.url));

/** Debian's own where there is one: that of a version manager is a shell script, which takes half a minute under emulation. */
export const python: string = existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3';

function program(name: string): string {
  return fileURLToPath(new URL(`./programs/${name}.js`, import.meta.url));
}

function outputOf(command: string, args: readonly string[], options: SpawnSyncOptions): string {
  const { status, signal, stdout, stderr, error } = spawnSync(command, args, {
    cwd: packageRoot,
    encoding: 'utf8',
    ...options,
  });
  assert.ifError(error);
  assert.equal(signal ?? status, 0, `${command} ${args.join(' ')}:\n${stderr}`);
  return stdout as string;
}

/**
 * Runs a program of `test/support/programs` and returns what it reports: the JSON on its standard output.
 * Fails when it does not end with status 0.
 */
export function runProgram<Report>(name: string, options: SpawnSyncOptions = {}): Report {
  return JSON.parse(outputOf(process.execPath, [program(name)], options)) as Report;
}

/** The same, after shell commands that prepare its surroundings, such as a limit. */
export function runProgramAfter<Report>(shell: string, name: string): Report {
  return JSON.parse(
    outputOf('sh', ['-ec', `${shell}; exec "$@"`, 'sh', process.execPath, program(name)], {}),
  );
}

/** The same, in a mount namespace of its own: what the shell commands mount is not seen outside. */
export function runProgramInNamespace<Report>(shell: string, name: string): Report {
  const args = ['--mount', 'sh', '-ec', `${shell}; exec "$@"`, 'sh', process.execPath, program(name)];
  return JSON.parse(outputOf('unshare', args, {}));
}

/** A program's report. */
export function report(value: unknown): void {
  process.stdout.write(JSON.stringify(value));
}

/** A program that runs beside the tests. */
export interface RunningProgram<Report> {
  readonly pid: number;
  /** What it reports when it ends with status 0; else a rejection. */
  readonly report: Promise<Report>;
  /** When it has ended, however. */
  readonly end: Promise<void>;
  /** Each line that it writes before its report. */
  line(): Promise<string>;
  /** Has it go on, or end: its standard input ends. */
  goOn(): void;
  kill(): void;
}

/** Starts a program of `test/support/programs`; `fds` become its descriptors from 3 on. */
export function startProgram<Report>(
  name: string,
  options: SpawnOptions & { fds?: readonly (number | 'ignore')[] } = {},
): RunningProgram<Report> {
  const { fds = [], ...rest } = options;
  const child = spawn(process.execPath, [program(name)], {
    cwd: packageRoot,
    ...rest,
    stdio: ['pipe', 'pipe', 'pipe', ...fds],
  }) as ChildProcessWithoutNullStreams;
  const lines: string[] = [];
  const waiting: ((line: string) => void)[] = [];
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  createInterface({ input: child.stdout }).on('line', (line) => {
    const first = waiting.shift();
    if (first) first(line);
    else lines.push(line);
  });
  const end = new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (...status) => resolve(status));
  });
  const result = end.then(([code, signal]) => {
    assert.equal(signal ?? code, 0, `${name}:\n${errors}`);
    return JSON.parse(lines.at(-1) ?? 'null') as Report;
  });
  result.catch(() => {});
  return {
    pid: child.pid as number,
    report: result,
    end: end.then(() => {}),
    line() {
      const line = lines.shift();
      if (line !== undefined) return Promise.resolve(line);
      const next = new Promise<string>((resolve) => waiting.push(resolve));
      const ended = end.then(() => assert.fail(`${name} ended early:\n${errors}`));
      return Promise.race([next, ended]);
    },
    goOn: () => child.stdin.end(),
    kill: () => child.kill('SIGKILL'),
  };
}
