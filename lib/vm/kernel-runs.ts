import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { readOptions } from '../check.js';
import { VmError } from './errors.js';
import { abortedError, type Killed } from './guest-process.js';
import type { Splat } from './kernel-log.js';
import { resolveOptions, VM_OPTIONS, type VmOptions, type VmSettings, whole, wrong } from './options.js';
import { prefixedLines } from './prefixed.js';
import { runWith } from './run.js';

/** What to run, and on which kernels. */
export interface KernelsOptions
  extends Omit<
    VmOptions,
    'kernel' | 'modulesDir' | 'console' | 'kernelLog' | 'screendump' | 'stdin' | 'terminal'
  > {
  /** The kernels, as `kernel` of `VmOptions` names one; each once. */
  kernels: readonly string[];
  /** How many guests run at a time; as many as this machine has CPUs by default. */
  jobs?: number;
}

/** What became of the command on one of the kernels. */
export interface KernelRun {
  /** The kernel, as it was named. */
  kernel: string;
  /** Its release, as `uname -r` prints it; undefined when there is no such kernel to be had. */
  release: string | undefined;
  /** The command's exit status, as in `VmResult`; undefined when the runner or the guest failed. */
  exitCode: number | undefined;
  /** What the guest's kernel killed for want of memory. */
  outOfMemory: readonly Killed[];
  /** What the guest's kernel has found wrong with itself; of a failure the error tells. */
  splats: readonly Splat[];
  /** Why there is no exit status. */
  error: VmError | undefined;
  /** How long the guest took in milliseconds, boot included, without what was fetched before. */
  duration: number;
}

/**
 * Runs a command on several kernels, side by side, and resolves with what became of it on each, in the order in which they
 * were named. `stdout` and `stderr` receive whole lines, each behind its kernel's name, and `progress` the same; what comes
 * back to `output` is in a folder in it for each kernel.
 *
 * A kernel that cannot be had, or a guest that fails, is an `error` in its own row and keeps none of the others.
 *
 * @throws VmError `ERR_DMABUF_VM_OPTION` for a wrong option, before anything is started; `ERR_DMABUF_VM_ABORTED` and
 *   `ERR_DMABUF_VM_OUTPUT` when all guests have been ended for that reason
 * @throws TypeError `ERR_INVALID_ARG_VALUE` for an option that does not exist
 *
 * ```js
 * const runs = await runOnKernels({ command: ['node', '--test'], kernels: ['stable', 'newest'] });
 * const isGreen = runs.every(({ exitCode }) => exitCode === 0);
 * ```
 */
export async function runOnKernels(options: KernelsOptions): Promise<KernelRun[]> {
  const { kernels, jobs, ...common } = readKernelsOptions(options);
  // Each kernel's settings are made now: a mistake is found before the first guest boots.
  const all = kernels.map((kernel) => resolveOptions({ ...common, kernel }));
  const [first] = all as [VmSettings];
  const ending = new AbortController();
  const onAbort = (): void => ending.abort();
  first.signal?.addEventListener('abort', onAbort, { once: true });
  if (first.signal?.aborted) onAbort();
  // Each run hears of an error by its own write.
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
      const run = runOne({ ...settings, modulesDir, output, signal: ending.signal }, width);
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
  first.signal?.removeEventListener('abort', onAbort);
  if (first.signal?.aborted) throw abortedError();
  if (failure !== undefined) throw failure;
  return runs;
}

/** Each kernel's files have a folder of their own, in the guest of the same name for all. */
function folderOf({ output, kernel }: VmSettings): string {
  return join(output?.target ?? '', kernel.replaceAll('/', '_'));
}

/** Failures for which there is no sense in the other runs either. */
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

/** Hands over a line that was not ended; of a stream that is broken the run has told. */
async function endOf(stream: Writable): Promise<void> {
  stream.end();
  await finished(stream).catch(() => {});
}

function readKernelsOptions(given: KernelsOptions): Omit<KernelsOptions, 'jobs'> & { jobs: number } {
  const names = ['kernels', 'jobs', ...VM_OPTIONS.filter((name) => !NOT_OF_SEVERAL.includes(name))];
  const { kernels, jobs, ...common } = readOptions(given, names) as KernelsOptions;
  const isList = Array.isArray(kernels) && kernels.length > 0;
  if (!isList || !kernels.every((kernel) => typeof kernel === 'string' && kernel !== '')) {
    throw wrong('kernels must be an array of names, with at least one in it and none of them empty');
  }
  const twice = kernels.find((kernel, index) => kernels.indexOf(kernel) !== index);
  if (twice !== undefined) throw wrong(`kernels names '${twice}' twice`);
  return {
    ...common,
    kernels,
    jobs: whole('jobs', jobs ?? availableParallelism(), 1, 1024),
  };
}

const NOT_OF_SEVERAL = ['kernel', 'modulesDir', 'console', 'kernelLog', 'screendump', 'stdin', 'terminal'];
