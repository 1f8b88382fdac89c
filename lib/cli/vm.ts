import { createWriteStream, existsSync, openSync } from 'node:fs';
import { constants } from 'node:os';
import { resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { maxDuration } from '../check.js';
import { escapeLines } from '../escape.js';
import { ARCHS, type Arch } from '../vm/arch.js';
import { parseVariable } from '../vm/environment.js';
import { type KernelRun, runInVm, VmError, type VmOptions, type VmResult } from '../vm/index.js';
import { endBySignal } from './ending.js';
import { safeErrors, whole } from './options.js';
import { EXIT_RUNNER_FAILED, EXIT_TIMEOUT, statusOf } from './vm-status.js';

const HELP = `
Runs Debian's kernel in a virtual machine (the guest). The guest sees this machine's files; what it writes is dropped at
the end. The command runs as root.
Exit status: the command's own; ${EXIT_TIMEOUT} when the time limit was reached; ${EXIT_RUNNER_FAILED} when the guest or the runner failed.
With several kernels: that of the first kernel that failed, in the order in which they are named; 0 when none failed.

Examples:
  dmabuf vm -- node --test
  dmabuf vm --kernel stable,newest -- npm test
  dmabuf vm --shell --modules vgem`;

interface Flags {
  kernel?: string;
  arch?: Arch;
  modulesDir?: string;
  modules?: string[];
  append?: string;
  icount?: boolean;
  accel?: NonNullable<VmOptions['accel']>;
  cpus?: number;
  memory?: number;
  timeout?: number;
  cwd?: string;
  jobs?: number;
  shell?: boolean;
  env?: Record<string, string | undefined>;
  output?: string;
  network?: boolean;
  device?: string[];
  machine?: string[];
  screendump?: string;
  kernelLog?: string;
  failOnSplat?: boolean;
}

/** `dmabuf vm` */
export function vmCommand(): Command {
  return safeErrors(new Command('dmabuf vm'))
    .usage(
      '[options] -- command [arguments...]\n       dmabuf vm --shell [options] [-- command [arguments...]]',
    )
    .argument('[command...]', 'the program to run in the guest, and its arguments')
    .option(
      '--kernel <name>',
      'newest (the default), stable, old, a series such as 6.12, host, or the path of a kernel image or folder; several, ' +
        'separated by commas, run in parallel',
    )
    .addOption(
      new Option(
        '--arch <processor>',
        "x64, or arm64: emulated, with Debian's arm64 programs and Node.js",
      ).choices(ARCHS),
    )
    .option(
      '--jobs <n>',
      'how many guests run at a time, with several kernels (as many as there are CPUs)',
      whole(1),
    )
    .option('--shell', 'connect this terminal to the command, or to a shell if there is none')
    .option('--modules-dir <folder>', "the folder of the kernel's modules, if they are not next to it")
    .option(
      '--modules <names>',
      'kernel modules to load first, e.g. vgem,sw_sync; some that Debian lacks are built',
      (list) => list.split(','),
    )
    .option('--append <words>', "words for the kernel's command line")
    .option('--icount', 'measure time in instructions, for repeatable figures (one CPU, slow)')
    .addOption(
      new Option('--accel <how>', 'how to run instructions: auto, tcg (emulation) or kvm').choices([
        'auto',
        'tcg',
        'kvm',
      ]),
    )
    .option('--cpus <n>', 'virtual CPUs (2)', number)
    .option('--memory <MiB>', 'memory of the guest in MiB (4096)', number)
    .option('--timeout <seconds>', 'time limit in seconds (600)', milliseconds)
    .option('--cwd <folder>', 'the folder in which the command starts (the current one)', (folder) =>
      resolve(folder),
    )
    .option(
      '--env <name[=value]>',
      'a variable for the command, with its value here or with this one (repeatable)',
      variable,
    )
    .option('--output <folder>', 'a folder whose files come back, however the command ends')
    .option('--network', 'a network that reaches what this machine reaches (otherwise there is none)')
    .option('--device <device>', "a device to add, as for QEMU's -device (repeatable)", several)
    .option(
      '--machine <type>',
      "type and properties of the machine, as for QEMU's -machine (repeatable)",
      several,
    )
    .option('--screendump <file>', 'a file for a picture of the display (--device) when the command ends')
    .option(
      '--kernel-log <file>',
      "a file for the kernel's log (with --output, kernel.log in its folder by default)",
    )
    .option(
      '--fail-on-splat',
      'status 125 when the command succeeded, but the kernel reported a fault of its own',
    )
    .passThroughOptions()
    .showHelpAfterError('(dmabuf vm --help shows how it is used)')
    .addHelpText('after', HELP)
    .exitOverride((error) => {
      throw new CommanderError(error.exitCode && EXIT_RUNNER_FAILED, error.code, error.message);
    })
    .action(runCommand);
}

async function runCommand(words: string[], flags: Flags, self: Command): Promise<void> {
  const { append, kernel, jobs, shell = false, kernelLog, failOnSplat = false, device, ...options } = flags;
  if (words.length === 0 && !shell) {
    self.error("error: missing required argument 'command', after --", { code: 'commander.missingArgument' });
  }
  const ownShell = options.arch === 'arm64' ? '/bin/bash' : process.env.SHELL;
  const command = words.length > 0 ? words : [ownShell || '/bin/sh'];
  const statusFor = (run: Pick<KernelRun, 'exitCode' | 'error' | 'splats'>): number =>
    statusOf(run) || (failOnSplat && run.splats.length > 0 ? EXIT_RUNNER_FAILED : 0);
  // The process must not end before the guest, which runInVm() ends when its output is not read.
  process.stdout.removeAllListeners('error').on('error', () => {});
  const controller = new AbortController();
  let received: NodeJS.Signals | undefined;
  const onSignal = (signal: NodeJS.Signals): void => {
    received ??= signal;
    controller.abort(
      new VmError('ERR_DMABUF_VM_ABORTED', 'the run was aborted, and no guest is left behind'),
    );
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
  try {
    const common = {
      ...options,
      command,
      ...(device === undefined ? {} : { devices: device }),
      ...(append === undefined ? {} : { kernelArguments: append.split(/\s+/) }),
      progress: say,
      signal: controller.signal,
    };
    const kernels = kernelNames(kernel);
    if (kernels.length > 1) {
      if (options.modulesDir !== undefined) {
        throw new VmError(
          'ERR_DMABUF_VM_OPTION',
          '--modules-dir has the modules of one kernel, and --kernel names several',
        );
      }
      if (shell)
        throw new VmError('ERR_DMABUF_VM_OPTION', '--shell takes one kernel, and --kernel names several');
      if (options.screendump !== undefined) {
        throw new VmError(
          'ERR_DMABUF_VM_OPTION',
          '--screendump takes one kernel, and --kernel names several',
        );
      }
      if (kernelLog !== undefined) {
        throw new VmError(
          'ERR_DMABUF_VM_OPTION',
          '--kernel-log has the log of one kernel, and --kernel names several: --output FOLDER keeps that of each',
        );
      }
      const { runAndTabulate } = await import('./vm-kernels.js');
      const runs = await runAndTabulate({ ...common, kernels, ...(jobs === undefined ? {} : { jobs }) });
      for (const run of runs) {
        sayOutOfMemory(run, `${run.kernel}: `);
        saySplats(run, options.output, `${run.kernel}: `);
      }
      process.exitCode = runs.map(statusFor).find((status) => status !== 0) ?? 0;
      return;
    }
    if (shell && process.stdin.isTTY && process.stdout.isTTY)
      say('Ctrl-] pressed three times ends the guest');
    const result = await runInVm({
      ...common,
      ...(kernel === undefined ? {} : { kernel }),
      // A process in the background that reads the terminal is stopped: so it is read only on request.
      ...(shell ? { terminal: true } : process.stdin.isTTY ? {} : { stdin: process.stdin }),
      ...(kernelLog === undefined ? {} : { kernelLog: logFile(kernelLog) }),
    });
    sayOutOfMemory(result);
    saySplats(result, kernelLog ?? options.output);
    process.exitCode = statusFor({ ...result, error: undefined });
  } catch (error) {
    if (!isForUser(error)) throw error;
    // `dmabuf vm … | head` is not a mistake
    if (!isClosedPipe(error)) say(error.message);
    if (shell && received === 'SIGHUP') endBySignal(received);
    process.exitCode = exitStatus(error, received);
  }
}

/** The kernels that `--kernel` names, or else the environment; none for the default. A path may have a comma in it. */
function kernelNames(given = process.env.DMABUF_VM_KERNEL): string[] {
  if (given === undefined || given === '') return [];
  const names = existsSync(given) ? [given] : given.split(',');
  if (names.includes('')) {
    throw new VmError('ERR_DMABUF_VM_OPTION', `--kernel names a kernel without a name: '${given}'`);
  }
  return names;
}

function sayOutOfMemory({ outOfMemory }: Pick<VmResult, 'outOfMemory'>, prefix = ''): void {
  for (const { name, pid, inControlGroup } of outOfMemory) {
    const [what, where] = inControlGroup
      ? ['a control group in the guest reached its limit', 'memory.max in the guest']
      : ['the guest ran out of memory', '--memory'];
    say(`${prefix}${what}, and its kernel killed '${name}' (process ${pid}); see ${where}`);
  }
}

/** `log` is the file in which the user has the whole log. */
function saySplats({ splats }: Pick<VmResult, 'splats'>, log: string | undefined, prefix = ''): void {
  const most = 5;
  for (const { title } of splats.slice(0, most))
    say(`${prefix}the guest's kernel has found a fault: ${title}`);
  if (splats.length > most) say(`${prefix}and ${splats.length - most} more`);
  if (splats.length > 0 && log === undefined) say(`${prefix}--kernel-log FILE has what led there`);
}

function logFile(path: string): Writable {
  try {
    return createWriteStream('', { fd: openSync(path, 'w') });
  } catch (cause) {
    const message = `--kernel-log: ${path} cannot be written: ${(cause as Error).message}`;
    throw new VmError('ERR_DMABUF_VM_OPTION', message, { cause });
  }
}

function exitStatus(error: Error, received: NodeJS.Signals | undefined): number {
  if (received !== undefined) return 128 + constants.signals[received];
  if (isClosedPipe(error)) return 128 + constants.signals.SIGPIPE;
  return statusOf({ exitCode: undefined, error: error as VmError });
}

/** Adds a word to those that were given before it. */
function several(word: string, before: string[] = []): string[] {
  return [...before, word];
}

/** Adds a variable to those that were given before it. */
function variable(word: string, before: Flags['env'] = {}): Flags['env'] {
  try {
    const [name, value] = parseVariable(word);
    if (value === undefined) say(`--env ${name}: it is not set here, and so not in the guest`);
    return { ...before, [name]: value };
  } catch {
    throw new InvalidArgumentError('It must be NAME or NAME=VALUE.');
  }
}

function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || Number.isNaN(value)) throw new InvalidArgumentError('It must be a number.');
  return value;
}

function milliseconds(text: string): number {
  const value = 1000 * number(text);
  if (value >= 1 && value <= maxDuration) return value;
  throw new InvalidArgumentError(`It must be a number of seconds from 0.001 to ${maxDuration / 1000}.`);
}

/** A failure of the runner, or an option that it refuses. */
function isForUser(error: unknown): error is Error {
  return error instanceof VmError || String((error as NodeJS.ErrnoException).code).startsWith('ERR_');
}

function isClosedPipe({ cause }: Error): boolean {
  return cause instanceof Error && 'code' in cause && cause.code === 'EPIPE';
}

function say(message: string): void {
  process.stderr.write(`dmabuf vm: ${escapeLines(message)}\n`);
}
