import assert from 'node:assert/strict';
import { type SpawnSyncOptions, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The package's own folder, where `import 'dmabuf'` finds it. */
export const packageRoot: string = fileURLToPath(new URL('../../..', import.meta.url));

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
