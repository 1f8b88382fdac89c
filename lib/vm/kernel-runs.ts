import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { joinSignals, throwIfAborted } from '../abort.js';
import { checkInteger, invalidType, outOfRange, readOptions } from '../check.js';
import { VmError } from './errors.js';
import type { Killed } from './guest-process.js';
import type { Splat } from './kernel-log.js';
import { resolveOptions, VM_OPTIONS, type VmOptions, type VmSettings } from './options.js';
import { prefixedLines } from './prefixed.js';
import { runWith } from './run.js';

/** What to run, and on which kernels. */
export interface KernelsOptions
  extends Omit<
    VmOptions,
    'kernel' | 'modulesDir' | 'console' | 'kernelLog' | 'screendump' | 'stdin' | 'terminal'
  > {
  /** The kernels, named as in `kernel` of `VmOptions`; each once. */
  kernels: readonly string[];
  /** How many guests run at a time; by default as many as this machine has CPUs. */
  jobs?: number | undefined;
}

/** The result of the command on one of the kernels. */
export interface KernelRun {
  /** The name of the kernel, as it was given. */
  kernel: string;
  /** The kernel's release, as `uname -r` prints it; undefined when the kernel is not available. */
  release: string | undefined;
  /** The command's exit status, as in `VmResult`; undefined when the runner or the guest failed. */
  exitCode: number | undefined;
  /** The processes that the guest's kernel killed because memory was used up. */
  outOfMemory: readonly Killed[];
  /** The faults that the guest's kernel has reported about itself; when the run failed, see `error`. */
  splats: readonly Splat[];
  /** The reason why there is no exit status. */
  error: VmError | undefined;
  /** How long the guest took in milliseconds, boot included, downloads excluded. */
  duration: number;
}

/**
 * Runs a command on several kernels in parallel, and resolves with the result on each, in the order in which they were
 * named. `stdout`, `stderr` and `progress` receive whole lines, each of which starts with its kernel's name; `output`
 * gets a subfolder for each kernel.
 *
 * If a kernel is not available, or a guest fails, its row has an `error`, and the others continue.
 *
 * @throws VmError `ERR_DMABUF_VM_OUTPUT`, or the signal's reason, when all guests were ended for that reason
 * @throws TypeError and RangeError as `runInVm()` does, before anything is started
 *
 * ```js
 * const runs = await runOnKernels({ command: ['node', '--test'], kernels: ['stable', 'newest'] });
 * const isGreen = runs.every(({ exitCode }) => exitCode === 0);
 * ```
 */
export async function runOnKernels(options: KernelsOptions): Promise<KernelRun[]> {
  const { kernels, jobs, ...common } = readKernelsOptions(options);
  // Each kernel's settings are made now, so that a mistake is found before the first guest boots.
  const all = kernels.map((kernel) => resolveOptions({ ...common, kernel }));
  const [first] = all as [VmSettings];
  const ending = new AbortController();
  const { signal, leave } = joinSignals(first.signal, ending.signal);
  // Each run learns of an error through its own write.
  const ignore = (): void => {};
  for (const stream of [first.stdout, first.stderr]) stream.on('error', ignore);

  const runs: KernelRun[] = [];
  let failure: unknown;
  const waiting = [...all.entries()];
  const width = Math.max(...kernels.map((kernel) => kernel.length));
  const worker = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [index, settings] = next;
      // A folder of modules that the environment names belongs to one kernel.
      const modulesDir = all.length === 1 ? settings.modulesDir : undefined;
      const output = settings.output && { ...settings.output, target: folderOf(settings) };
      const run = runOne({ ...settings, modulesDir, output, signal }, width);
      runs[index] = await run.catch((error: unknown) => {
        failure ??= error;
        ending.abort();
        waiting.length = 0;
        return undefined as never;
      });
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, all.length) }, worker));
  for (const stream of [first.stdout, first.stderr]) stream.off('error', ignore);
  leave();
  throwIfAborted(first.signal);
  if (failure !== undefined) throw failure;
  return runs;
}

/** Each kernel's files have their own folder, which has the same name in every guest. */
function folderOf({ output, kernel }: VmSettings): string {
  return join(output?.target ?? '', kernel.replaceAll('/', '_'));
}

/** Failures after which the other runs make no sense either. */
const ENDING_ALL = ['ERR_DMABUF_VM_ABORTED', 'ERR_DMABUF_VM_OUTPUT'];

async function runOne(settings: VmSettings, width: number): Promise<KernelRun> {
  const { kernel } = settings;
  const prefix = `${kernel.padEnd(width)} | `;
  const stdout = prefixedLines(settings.stdout, prefix);
  const stderr = prefixedLines(settings.stderr, prefix);
  const progress = (message: string): void => settings.progress(`${kernel}: ${message}`);
  let started = performance.now();
  let release: string | undefined;
  const row = (rest: Pick<KernelRun, 'exitCode' | 'outOfMemory' | 'splats' | 'error'>): KernelRun => ({
    kernel,
    release,
    ...rest,
    duration: performance.now() - started,
  });
  try {
    const { exitCode, outOfMemory, splats } = await runWith(
      { ...settings, stdout, stderr, progress },
      (found) => {
        release = found;
        started = performance.now();
      },
    );
    return row({ exitCode, outOfMemory, splats, error: undefined });
  } catch (error) {
    if (!(error instanceof VmError) || ENDING_ALL.includes(error.code)) throw error;
    progress(error.message);
    return row({ exitCode: undefined, outOfMemory: [], splats: [], error });
  } finally {
    await Promise.all([stdout, stderr].map(endOf));
  }
}

/** Passes on an unfinished last line. The run itself has reported a broken stream. */
async function endOf(stream: Writable): Promise<void> {
  stream.end();
  await finished(stream).catch(() => {});
}

function readKernelsOptions(given: KernelsOptions): Omit<KernelsOptions, 'jobs'> & { jobs: number } {
  const names = ['kernels', 'jobs', ...VM_OPTIONS.filter((name) => !NOT_OF_SEVERAL.includes(name))];
  const { kernels, jobs = availableParallelism(), ...common } = readOptions(given, names) as KernelsOptions;
  const isList = Array.isArray(kernels) && kernels.length > 0;
  if (!isList || !kernels.every((kernel) => typeof kernel === 'string' && kernel !== '')) {
    throw invalidType(
      'option kernels',
      'an array of names, with at least one in it and none of them empty',
      kernels,
    );
  }
  const twice = kernels.find((kernel, index) => kernels.indexOf(kernel) !== index);
  if (twice !== undefined) throw outOfRange('option kernels', 'such that each is named once', twice);
  return {
    ...common,
    kernels,
    jobs: checkInteger(jobs, 'option jobs', 1, 1024),
  };
}

const NOT_OF_SEVERAL = ['kernel', 'modulesDir', 'console', 'kernelLog', 'screendump', 'stdin', 'terminal'];
