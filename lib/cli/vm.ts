import { constants } from 'node:os';
import { resolve } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { runInVm, VmError, type VmOptions } from '../vm/index.js';

/** Exit statuses beside the command's own. */
const EXIT_TIMEOUT = 124;
const EXIT_RUNNER_FAILED = 125;

const HELP = `
The guest sees this machine's files under a writable layer that is dropped at the end; the command runs as root.
Exit status: the command's own; ${EXIT_TIMEOUT} when the time limit was reached; ${EXIT_RUNNER_FAILED} when the guest or the runner failed.`;

interface Flags {
  kernel?: string;
  modulesDir?: string;
  modules?: string[];
  append?: string;
  icount?: boolean;
  accel?: NonNullable<VmOptions['accel']>;
  cpus?: number;
  memory?: number;
  timeout?: number;
  cwd?: string;
}

/** `dmabuf vm` */
export function vmCommand(): Command {
  return new Command('dmabuf vm')
    .usage('[options] -- command [arguments...]')
    .argument('<command...>', 'program to run in the guest, and its arguments')
    .option(
      '--kernel <name>',
      'newest (the default), stable, old, a series such as 6.12, host, or the path of a kernel image or folder',
    )
    .option('--modules-dir <folder>', "the kernel's modules, if not beside it")
    .option(
      '--modules <names>',
      'kernel modules to load first, e.g. vgem,sw_sync; some that Debian lacks are built',
      (list) => list.split(','),
    )
    .option('--append <words>', "words for the kernel's command line")
    .option('--icount', 'count instructions as time, for figures that repeat (one CPU, slow)')
    .addOption(new Option('--accel <how>', 'auto, tcg or kvm').choices(['auto', 'tcg', 'kvm']))
    .option('--cpus <n>', 'virtual CPUs (2)', number)
    .option('--memory <MiB>', 'memory of the guest (4096)', number)
    .option('--timeout <seconds>', 'time limit (600)', number)
    .option('--cwd <folder>', 'where the command starts (here)', (folder) => resolve(folder))
    .passThroughOptions()
    .addHelpText('after', HELP)
    .exitOverride((error) => {
      throw new CommanderError(error.exitCode && EXIT_RUNNER_FAILED, error.code, error.message);
    })
    .action(runCommand);
}

async function runCommand(command: string[], flags: Flags): Promise<void> {
  const { append, ...options } = flags;
  const controller = new AbortController();
  let received: NodeJS.Signals | undefined;
  const onSignal = (signal: NodeJS.Signals): void => {
    received ??= signal;
    controller.abort();
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
  try {
    const { exitCode, outOfMemory } = await runInVm({
      ...options,
      command,
      ...(append === undefined ? {} : { kernelArguments: append.split(/\s+/) }),
      progress: say,
      signal: controller.signal,
    });
    for (const { name, pid, inControlGroup } of outOfMemory) {
      const [what, where] = inControlGroup
        ? ['a control group in the guest reached its limit', 'memory.max in the guest']
        : ['the guest ran out of memory', '--memory'];
      say(`${what}, and its kernel killed '${name}' (process ${pid}); see ${where}`);
    }
    process.exitCode = exitCode;
  } catch (error) {
    if (!(error instanceof VmError)) throw error;
    // `dmabuf vm … | head` is no mistake
    if (!isClosedPipe(error)) say(error.message);
    process.exitCode = exitStatus(error, received);
  }
}

function exitStatus(error: VmError, received: NodeJS.Signals | undefined): number {
  if (received !== undefined) return 128 + constants.signals[received];
  if (isClosedPipe(error)) return 128 + constants.signals.SIGPIPE;
  return error.code === 'ERR_DMABUF_VM_TIMEOUT' ? EXIT_TIMEOUT : EXIT_RUNNER_FAILED;
}

function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || Number.isNaN(value)) throw new InvalidArgumentError('It must be a number.');
  return value;
}

function isClosedPipe({ cause }: VmError): boolean {
  return cause instanceof Error && 'code' in cause && cause.code === 'EPIPE';
}

function say(message: string): void {
  process.stderr.write(`dmabuf vm: ${message}\n`);
}
