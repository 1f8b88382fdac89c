import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { resolve } from 'node:path';
import { Writable } from 'node:stream';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { deserialize } from 'node:v8';
import { joinSignals } from '../abort.js';
import { checkSignal, invalidType, outOfRange, readOptions } from '../check.js';
import { quote } from './guest.js';
import { resolveOptions, VM_OPTIONS, type VmOptions } from './options.js';
import { begunMark } from './output.js';
import { runWith } from './run.js';
import { FileReplay } from './test-replay.js';
import type { GuestEvent } from './test-reporter.js';

/** Which test files to run in a guest, and in what kind of guest. */
export interface GuestTestsOptions extends Omit<VmOptions, 'command' | 'stdin' | 'terminal'> {
  /** The test files, absolute or relative to `cwd`. Each runs in its own process, one after the other. */
  files: readonly string[];
  /** Node.js's options for each of the files, such as `['--import=tsx']` or `['--test-name-pattern=heap']`. */
  nodeOptions?: readonly string[] | undefined;
  /** The path of the Node.js that runs the files; by default the one that runs this process. */
  node?: string | undefined;
}

/**
 * Runs test files in a guest, and reports their tests through the test that calls it. Each file is a subtest, and each
 * test in it is a subtest of the file, with its name, nesting, skip and todo, start, duration, error and position in
 * the file.
 *
 * If a file ends before its tests do, or the guest crashes, the running test fails with the last output. The output of
 * the files goes to `stdout` and `stderr`. The guest ends with the outer test, also at its `timeout`.
 *
 * @throws VmError when the runner or the guest fails, as `runInVm()` does
 * @throws TypeError and RangeError as `runInVm()` does; RangeError `ERR_OUT_OF_RANGE` for a file that is not there
 *
 * ```js
 * test('on a real kernel', (t) => testInVm(t, { files: ['test/kernel/heap.test.js'], modules: ['vgem'] }));
 * ```
 */
export async function testInVm(t: TestContext, options: GuestTestsOptions): Promise<void> {
  const { files, nodeOptions = [], node = process.execPath, signal, ...common } = readTestOptions(t, options);
  const command = ['/bin/sh', '-c', 'placeholder'];
  const settings = resolveOptions({ ...common, command });
  for (const file of files) {
    if (!existsSync(resolve(settings.cwd, file)))
      throw outOfRange('option files', `files that exist (in ${settings.cwd})`, file);
  }
  const mark = `\x1edmabuf-vm ${randomUUID()}`;
  const run = [node, ...nodeOptions, `--test-reporter=${REPORTER}`, '--test-reporter-destination=stdout'];
  const outputs = [settings.stdout, settings.stderr].map((stream) => new Output(mark, stream)) as [
    Output,
    Output,
  ];
  const replays: FileReplay[] = [];
  const ends: Promise<void>[] = [];
  const end = async (index: number, problem: string | undefined, isOfFailedTests = false): Promise<void> => {
    const said = await Promise.all(outputs.map((output) => output.of(index)));
    await replays[index]?.end(problem, said.join(''), isOfFailedTests);
  };
  const onLine = (line: string): void => {
    const [word, rest = ''] = line.split(' ', 2);
    const replay = replays.at(-1);
    if (word === 'file') {
      const file = files[replays.length] as string;
      replays.push(new FileReplay(t, file, resolve(settings.cwd, file)));
    } else if (word === 'event') {
      replay?.handle(deserialize(Buffer.from(rest, 'base64')) as GuestEvent);
    } else if (word === 'exit') {
      const status = Number(rest);
      const problem = status === 0 ? undefined : `ended with ${nameOfStatus(status)}`;
      ends.push(end(ends.length, problem, status === 1));
    }
  };

  let failure: unknown;
  const joined = joinSignals(t.signal, checkSignal(signal));
  try {
    const { exitCode, outOfMemory, splats } = await runWith({
      ...settings,
      signal: joined.signal,
      command: ['/bin/sh', '-c', scriptOf(files, run, mark)],
      stdout: outputs[0].stream,
      stderr: outputs[1].stream,
      events: lines(onLine),
    });
    for (const { name, pid } of outOfMemory) {
      t.diagnostic(`the guest's kernel killed '${name}' (process ${pid}) because memory was used up`);
    }
    for (const { title } of splats) t.diagnostic(`the guest's kernel has found a fault: ${title}`);
    if (exitCode !== 0)
      failure = new Error(`the shell that runs the files ended with ${nameOfStatus(exitCode)}`);
  } catch (error) {
    failure = error;
  }
  joined.leave();
  for (const output of outputs) output.end();
  await Promise.all(ends);
  if (failure === undefined) return;
  // The tests that were running have ended with the guest.
  if (replays.length > ends.length) await end(ends.length, `was cut off: ${(failure as Error).message}`);
  throw failure;
}

/** Beside this file, bundled or not. */
const REPORTER = fileURLToPath(new URL('./test-reporter.js', import.meta.url));

/** Runs the files; the third descriptor is the events' pipe. */
function scriptOf(files: readonly string[], run: readonly string[], mark: string): string {
  const say = `printf %s ${quote(mark)}`;
  return files
    .map((file) => {
      const words = [...run, file].map(quote).join(' ');
      return `echo file >&3; ${words} </dev/null; status=$?; ${say}; ${say} >&2; echo "exit $status" >&3\n`;
    })
    .join('');
}

function nameOfStatus(status: number): string {
  const signal = Object.entries(constants.signals).find(([, number]) => number === status - 128)?.[0];
  return signal === undefined ? `status ${status}` : `status ${status} (${signal})`;
}

const NOT_OF_TESTS = ['command', 'stdin', 'terminal'];

function readTestOptions(t: TestContext, given: GuestTestsOptions): GuestTestsOptions {
  const names = [
    'files',
    'nodeOptions',
    'node',
    ...VM_OPTIONS.filter((name) => !NOT_OF_TESTS.includes(name)),
  ];
  const options = readOptions(given, names) as GuestTestsOptions;
  if (typeof (t as TestContext | undefined)?.test !== 'function') {
    throw invalidType('first argument', 'the context of a test of node:test', t);
  }
  const isTexts = (value: unknown): boolean =>
    Array.isArray(value) &&
    value.every((one) => typeof one === 'string' && one !== '' && !one.includes('\0'));
  const { files, nodeOptions = [], node = '/' } = options;
  if (!isTexts(files) || files.length === 0)
    throw invalidType('option files', 'an array of paths, with at least one in it', files);
  if (!isTexts(nodeOptions)) throw invalidType('option nodeOptions', 'an array of strings', nodeOptions);
  if (!isTexts([node])) throw invalidType('option node', 'the path of a Node.js', node);
  return options;
}

/** Calls back with each line that is written. */
function lines(onLine: (line: string) => void): Writable {
  let begun: Buffer[] = [];
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      const parts = chunk.toString('latin1').split('\n');
      for (const [index, part] of parts.entries()) {
        begun.push(Buffer.from(part, 'latin1'));
        if (index === parts.length - 1) break;
        onLine(Buffer.concat(begun).toString());
        begun = [];
      }
      done();
    },
  });
}

/** How much of what a file wrote to each stream is kept for its error, in characters. */
const KEPT = 4000;

/** What the files write to one stream, passed on; the last of it is kept for each file, whose end a mark tells. */
class Output {
  readonly stream: Writable;
  readonly #mark: Buffer;
  #kept: Buffer = Buffer.alloc(0);
  #said = '';
  readonly #ofFiles: string[] = [];
  #isOver = false;
  #waiting: (() => void)[] = [];

  constructor(mark: string, to: Writable) {
    this.#mark = Buffer.from(mark);
    const take = (chunk: Buffer): Buffer => this.#take(chunk);
    this.stream = new Writable({
      write(chunk: Buffer, _encoding, done) {
        const bytes = take(chunk);
        if (bytes.length === 0) done();
        else to.write(bytes, done);
      },
    });
  }

  /** What a file wrote last, when all of it has come, or all that will. */
  async of(file: number): Promise<string> {
    while (this.#ofFiles.length <= file && !this.#isOver) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    return this.#ofFiles[file] ?? this.#said;
  }

  /** Nothing more comes. */
  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  #take(chunk: Buffer): Buffer {
    let bytes = Buffer.concat([this.#kept, chunk]);
    const parts: Buffer[] = [];
    for (let end = bytes.indexOf(this.#mark); end >= 0; end = bytes.indexOf(this.#mark)) {
      parts.push(this.#keep(bytes.subarray(0, end)));
      bytes = bytes.subarray(end + this.#mark.length);
      this.#ofFiles.push(this.#said);
      this.#said = '';
      this.#wake();
    }
    const length = begunMark(bytes, this.#mark);
    this.#kept = bytes.subarray(bytes.length - length);
    return Buffer.concat([...parts, this.#keep(bytes.subarray(0, bytes.length - length))]);
  }

  #keep(bytes: Buffer): Buffer {
    this.#said = (this.#said + bytes.toString()).slice(-KEPT);
    return bytes;
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting = [];
  }
}
