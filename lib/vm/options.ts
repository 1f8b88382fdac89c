import { isAbsolute, resolve } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import {
  checkDuration,
  checkInteger,
  checkSignal,
  invalidType,
  invalidValue,
  maxDuration,
  outOfRange,
  readOptions,
} from '../check.js';
import { ARCHITECTURES, ARCHS, type Arch } from './arch.js';
import { guestEnvironment } from './environment.js';
import { SCREENDUMP_PROGRAM } from './guest.js';
import { checkScreendump } from './screendump.js';

/** How QEMU executes the guest's instructions: `'kvm'` on the CPU, `'tcg'` by emulation. */
export type Accelerator = 'auto' | 'tcg' | 'kvm';

/** What to run, on which kernel, and in what kind of machine. */
export interface VmOptions {
  /** The program and its arguments. It is looked up in the `PATH` of `env` and runs as root in the guest. */
  command: readonly string[];
  /**
   * A kernel of Debian, downloaded into the user's cache: `'newest'` (the default, from the backports), `'stable'`
   * (from the current stable release), `'old'` (from the release before), or a series such as `'6.12'`. The three names
   * are looked up in Debian's suites once a day. It can also be `'host'`, the kernel that this machine runs, or the
   * path of a kernel image or of a folder that contains `vmlinuz`. The environment variable `DMABUF_VM_KERNEL` changes
   * the default.
   */
  kernel?: string | undefined;
  /**
   * The guest's processor: `'x64'`, this machine's (the default), or `'arm64'`, which is emulated. An arm64 guest has
   * Debian's kernel for arm64, some of Debian's programs (a shell, coreutils and the like) instead of this machine's,
   * which it cannot run, and Node.js of the same major version as this one. All are downloaded the first time. The
   * other files are this machine's, as in any guest. Debian's arm64 kernels have udmabuf, and a dma-buf heap with
   * `modules: ['system_heap']`.
   */
  arch?: Arch | undefined;
  /**
   * The folder with the kernel's modules, with the layout of `/lib/modules/<release>`; by default the one that belongs
   * to the kernel. The environment variable `DMABUF_VM_MODULES_DIR` changes the default.
   */
  modulesDir?: string | undefined;
  /**
   * Kernel modules to load before the command starts, e.g. `['vgem']`; their dependencies are loaded, too. Some modules
   * that Debian's kernels lack are built the first time: `cma_heap`, `sw_sync`, `vkms`, `vim2m`, `vicodec`,
   * `dmabuf_test`, and on arm64 `system_heap`.
   */
  modules?: readonly string[] | undefined;
  /** Words to add to the kernel's command line, e.g. `['cma=64M']`. */
  kernelArguments?: readonly string[] | undefined;
  /** Makes each instruction take one nanosecond of guest time, so that figures repeat; implies one CPU and no KVM. */
  icount?: boolean | undefined;
  /** `'auto'` (the default) uses KVM if a trial boot with it has worked, and otherwise emulates (`'tcg'`). */
  accel?: Accelerator | undefined;
  /** Number of virtual CPUs; 2 by default, 1 with `icount`. */
  cpus?: number | undefined;
  /** The guest's memory in MiB, at least 128; 4096 by default. */
  memory?: number | undefined;
  /** Time limit for boot and command together, in milliseconds; 600 000 by default. */
  timeout?: number | undefined;
  /** The folder in which the command starts, as an absolute path; by default the caller's current one. */
  cwd?: string | undefined;
  /**
   * Variables for the command, besides those that it always gets: the caller's `PATH`, `HOME`, `SHELL`, `TERM`,
   * `COLORTERM`, `NO_COLOR`, `TZ`, `LANG`, `LANGUAGE` and `LC_*`, and the guest's own `USER`, `LOGNAME`, `PWD` and
   * `DMABUF_VM=1`. A variable that is undefined is left out. No other variable of the caller reaches the guest.
   */
  env?: Readonly<Record<string, string | undefined>> | undefined;
  /** The command's standard input; empty by default. The stream is not read before the command has started. */
  stdin?: Readable | undefined;
  /**
   * Runs the command on a terminal of the guest that is connected to the terminal of this process: the command gets
   * every key, Ctrl-C too, and changes of the size. `process.stdin` and `process.stdout` must be a terminal, whose
   * modes are always restored. There is then no time limit, unless `timeout` sets one; pressing Ctrl-] three times ends
   * the guest.
   */
  terminal?: boolean | undefined;
  /**
   * A folder of this machine to which files come back: those that the command writes to the folder of the same path in
   * the guest, however it ends. In the guest it is empty at first, and `DMABUF_VM_OUTPUT` names it. The folder is
   * created if it does not exist, and other files in it stay. Relative paths start from the caller's current folder.
   */
  output?: string | undefined;
  /**
   * Gives the guest a network besides its loopback interface. It reaches what this machine reaches over TCP and UDP,
   * and this machine itself as 10.0.2.2; nothing can connect to the guest.
   */
  network?: boolean | undefined;
  /** Devices to add, as for QEMU's `-device`, e.g. `['virtio-gpu-pci']`. */
  devices?: readonly string[] | undefined;
  /** Machine types and properties, as for QEMU's `-machine`, e.g. `['q35']`. */
  machine?: readonly string[] | undefined;
  /**
   * A file for a picture of the guest's display, taken when the command ends, or whenever it runs
   * `$DMABUF_VM_SCREENDUMP`. The format is PPM if the name ends in `.ppm`, else PNG. One of `devices` has to be a
   * display.
   */
  screendump?: string | undefined;
  /** Receives the command's standard output, byte for byte; by default `process.stdout`. */
  stdout?: Writable | undefined;
  /** Receives the command's standard error, byte for byte; by default `process.stderr`. */
  stderr?: Writable | undefined;
  /** Receives the kernel's console as it is written; by default only its last lines are kept, for errors. */
  console?: Writable | undefined;
  /**
   * Receives the kernel's log as it is written, line by line, in the format of `dmesg`. Unlike the console, it is
   * complete. By default it is kept in memory, for errors, and with `output` also in the folder, as `kernel.log`.
   */
  kernelLog?: Writable | undefined;
  /** Called with short sentences about what the runner is doing. By default they are dropped. */
  progress?: ((message: string) => void) | undefined;
  /** Ends the guest when it aborts; the promise then rejects with its reason. Any AbortSignal is accepted. */
  signal?: AbortSignal | undefined;
}

/** Options after the defaults are filled in. */
export interface VmSettings {
  command: readonly string[];
  kernel: string;
  arch: Arch;
  modulesDir: string | undefined;
  modules: readonly string[];
  kernelArguments: readonly string[];
  icount: boolean;
  accel: Accelerator;
  cpus: number;
  memory: number;
  /** Milliseconds. */
  timeout: number;
  cwd: string;
  env: Record<string, string>;
  stdin: Readable | undefined;
  terminal: boolean;
  /** Its path in the guest, and the folder of this machine to which the files come back. */
  output: { path: string; target: string } | undefined;
  network: boolean;
  devices: readonly string[];
  machine: readonly string[];
  /** As an absolute path. */
  screendump: string | undefined;
  stdout: Writable;
  stderr: Writable;
  /** A third output, the command's descriptor 3; only this package uses one. */
  events: Writable | undefined;
  console: Writable | undefined;
  kernelLog: Writable | undefined;
  progress: (message: string) => void;
  signal: AbortSignal | undefined;
}

/** The kernel that is used when none is named. */
export const DEFAULT_KERNEL = 'newest';

/** The type of an option, in words and as a check. */
type Kind = readonly [string, (value: unknown) => boolean];

const ofType = (type: string, words: string): Kind => [words, (value) => typeof value === type];
const withMethod = (name: string, words: string): Kind => [
  words,
  (value) => typeof (value as Record<string, unknown> | null)?.[name] === 'function',
];
const text = ofType('string', 'a string');
const number = ofType('number', 'a number');
const texts: Kind = [
  'an array of strings',
  (value) => Array.isArray(value) && value.every((one) => typeof one === 'string'),
];
const stream = withMethod('write', 'a writable stream');

const kinds: Readonly<Record<keyof VmOptions, Kind>> = {
  command: texts,
  kernel: text,
  arch: text,
  modulesDir: text,
  modules: texts,
  kernelArguments: texts,
  icount: ofType('boolean', 'true or false'),
  accel: text,
  cpus: number,
  memory: number,
  timeout: number,
  cwd: text,
  env: ['an object', (value) => typeof value === 'object' && value !== null],
  stdin: withMethod('pipe', 'a readable stream'),
  terminal: ofType('boolean', 'true or false'),
  output: text,
  network: ofType('boolean', 'true or false'),
  devices: texts,
  machine: texts,
  screendump: text,
  stdout: stream,
  stderr: stream,
  console: stream,
  kernelLog: stream,
  progress: ofType('function', 'a function'),
  signal: ['an AbortSignal', () => true],
};

/** The names of all options. */
export const VM_OPTIONS: readonly string[] = Object.keys(kinds);

/** Throws for an option of another type; one that may be left out may be undefined. */
function checkTypes(options: VmOptions): void {
  for (const [name, [words, isRight]] of Object.entries(kinds)) {
    const value = (options as VmOptions | undefined)?.[name as keyof VmOptions];
    if (value === undefined && name !== 'command') continue;
    if (!isRight(value)) throw invalidType(`option ${name}`, words, value);
  }
}

/**
 * Checks the options and fills in the defaults.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; `ERR_INVALID_ARG_VALUE` for an option that does not exist, and for options that do
 *   not go together
 * @throws RangeError `ERR_OUT_OF_RANGE`
 */
export function resolveOptions(given: VmOptions): VmSettings {
  const options = readOptions(given, VM_OPTIONS) as VmOptions;
  checkTypes(options);
  const icount = options.icount ?? false;
  const accel = options.accel ?? 'auto';
  const cwd = options.cwd ?? process.cwd();
  if (options.output === '' || options.output?.includes('\0'))
    throw outOfRange('option output', 'the path of a folder', options.output);
  const target = options.output && resolve(options.output);
  const output = target === undefined ? undefined : { path: target, target };
  if (options.screendump === '')
    throw outOfRange('option screendump', 'the path of a file', options.screendump);
  const screendump = options.screendump === undefined ? undefined : resolve(options.screendump);
  if (options.command.length === 0 || options.command[0] === '') throw invalidValue('command is empty');
  if (options.command[0]?.includes('=')) throw invalidValue(`a program name with '=' in it cannot be run`);
  for (const word of options.command) {
    if (word.includes('\0')) throw invalidValue('command contains a NUL character');
  }
  if (!['auto', 'tcg', 'kvm'].includes(accel))
    throw outOfRange('option accel', "'auto', 'tcg' or 'kvm'", accel);
  const arch = options.arch ?? 'x64';
  if (!ARCHS.includes(arch)) throw outOfRange('option arch', ARCHS.join(' or '), arch);
  if (arch !== 'x64') checkForeign(arch, options);
  const devices = qemuWords('device', options.devices, arch);
  if (screendump !== undefined) checkScreendump(screendump, devices);
  if (icount && accel === 'kvm')
    throw invalidValue('icount counts emulated instructions, which KVM does not have');
  if (icount && (options.cpus ?? 1) !== 1) throw invalidValue('icount works with one CPU only');
  if (!isAbsolute(cwd)) throw outOfRange('option cwd', 'an absolute path', cwd);
  for (const word of options.kernelArguments ?? []) {
    if (/[\0\n]/.test(word)) throw invalidValue('a kernel argument contains a line break or NUL character');
  }
  const terminal = options.terminal ?? false;
  if (terminal) checkTerminal(options);
  return {
    command: options.command,
    kernel: options.kernel ?? (process.env.DMABUF_VM_KERNEL || DEFAULT_KERNEL),
    arch,
    modulesDir: options.modulesDir ?? (process.env.DMABUF_VM_MODULES_DIR || undefined),
    modules: options.modules ?? [],
    kernelArguments: options.kernelArguments ?? [],
    icount,
    accel: icount || arch !== 'x64' ? 'tcg' : accel,
    cpus: checkInteger(options.cpus ?? (icount ? 1 : 2), 'option cpus', 1, 255),
    memory: checkInteger(options.memory ?? 4096, 'option memory', 128, 16 * 1024 * 1024),
    timeout: checkDuration(options.timeout ?? (terminal ? maxDuration : 600_000), 'option timeout', 1),
    cwd,
    stdin: options.stdin,
    terminal,
    env: guestEnvironment(
      {
        // This machine's folder may not exist in the guest.
        ...(arch === 'x64' ? {} : { SHELL: '/bin/bash' }),
        ...options.env,
        DMABUF_VM_OUTPUT: output?.path,
        DMABUF_VM_SCREENDUMP: screendump === undefined ? undefined : SCREENDUMP_PROGRAM,
      },
      cwd,
    ),
    output,
    network: options.network ?? false,
    devices,
    machine: qemuWords('machine', options.machine, arch),
    screendump,
    stdout: options.stdout ?? process.stdout,
    stderr: options.stderr ?? process.stderr,
    events: undefined,
    console: options.console,
    kernelLog: options.kernelLog,
    progress: options.progress ?? (() => {}),
    signal: checkSignal(options.signal),
  };
}

/** Refuses options that need this machine's processor or kernel. */
function checkForeign(arch: Arch, { accel, kernel }: VmOptions): void {
  if (accel === 'kvm')
    throw invalidValue(`accel (--accel) kvm runs this machine's processor only, and arch is ${arch}`);
  if (kernel === 'host')
    throw invalidValue(`kernel (--kernel) host is this machine's kernel, and arch is ${arch}`);
}

function checkTerminal({ stdin, stdout }: VmOptions): void {
  if (stdin !== undefined || stdout !== undefined) {
    throw invalidValue(
      "terminal joins this process's own terminal, so that stdin and stdout cannot be given",
    );
  }
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    throw invalidValue('terminal (--shell) needs a terminal: standard input and standard output must be one');
  }
}

/**
 * Checks options that are passed to QEMU unchanged. QEMU itself reports mistakes, except those that make it print help.
 */
function qemuWords(
  option: 'device' | 'machine',
  words: readonly string[] = [],
  arch: Arch,
): readonly string[] {
  for (const word of words) {
    if (word === '' || word.includes('\0'))
      throw invalidValue(`${option} (--${option}) is empty or contains a NUL character`);
    if (/(^|,)(help|\?)(,|$)/.test(word)) {
      throw invalidValue(
        `${option} (--${option}): for QEMU's help, run: ${ARCHITECTURES[arch].qemu} -${option} ${word}`,
      );
    }
  }
  return words;
}
