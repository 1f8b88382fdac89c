import { isAbsolute, resolve } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { inspect } from 'node:util';
import { readOptions } from '../check.js';
import { ARCHITECTURES, ARCHS, type Arch } from './arch.js';
import { guestEnvironment } from './environment.js';
import { VmError } from './errors.js';
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
  kernel?: string;
  /**
   * The guest's processor: `'x64'`, this machine's (the default), or `'arm64'`, which is emulated. An arm64 guest has
   * Debian's kernel for arm64, some of Debian's programs (a shell, coreutils and the like) instead of this machine's,
   * which it cannot run, and Node.js of the same major version as this one. All are downloaded the first time. The
   * other files are this machine's, as in any guest. Debian's arm64 kernels have udmabuf, and a dma-buf heap with
   * `modules: ['system_heap']`.
   */
  arch?: Arch;
  /**
   * The folder with the kernel's modules, with the layout of `/lib/modules/<release>`; by default the one that belongs
   * to the kernel. The environment variable `DMABUF_VM_MODULES_DIR` changes the default.
   */
  modulesDir?: string;
  /**
   * Kernel modules to load before the command starts, e.g. `['vgem']`; their dependencies are loaded, too. Some modules
   * that Debian's kernels lack are built the first time: `cma_heap`, `sw_sync`, `vkms`, `vim2m`, `vicodec`,
   * `dmabuf_test`, and on arm64 `system_heap`.
   */
  modules?: readonly string[];
  /** Words to add to the kernel's command line, e.g. `['cma=64M']`. */
  kernelArguments?: readonly string[];
  /** Makes each instruction take one nanosecond of guest time, so that figures repeat; implies one CPU and no KVM. */
  icount?: boolean;
  /** `'auto'` (the default) uses KVM if a trial boot with it has worked, and otherwise emulates (`'tcg'`). */
  accel?: Accelerator;
  /** Number of virtual CPUs; 2 by default, 1 with `icount`. */
  cpus?: number;
  /** The guest's memory in MiB, at least 128; 4096 by default. */
  memory?: number;
  /** Time limit for boot and command together, in seconds; 600 by default. */
  timeout?: number;
  /** The folder in which the command starts, as an absolute path; by default the caller's current one. */
  cwd?: string;
  /**
   * Variables for the command, besides those that it always gets: the caller's `PATH`, `HOME`, `SHELL`, `TERM`,
   * `COLORTERM`, `NO_COLOR`, `TZ`, `LANG`, `LANGUAGE` and `LC_*`, and the guest's own `USER`, `LOGNAME`, `PWD` and
   * `DMABUF_VM=1`. A variable that is undefined is left out. No other variable of the caller reaches the guest.
   */
  env?: Readonly<Record<string, string | undefined>>;
  /** The command's standard input; empty by default. The stream is not read before the command has started. */
  stdin?: Readable;
  /**
   * Runs the command on a terminal of the guest that is connected to the terminal of this process: the command gets
   * every key, Ctrl-C too, and changes of the size. `process.stdin` and `process.stdout` must be a terminal, whose
   * modes are always restored. There is then no time limit, unless `timeout` sets one; pressing Ctrl-] three times ends
   * the guest.
   */
  terminal?: boolean;
  /**
   * A folder of this machine to which files come back: those that the command writes to the folder of the same path in
   * the guest, however it ends. In the guest it is empty at first, and `DMABUF_VM_OUTPUT` names it. The folder is
   * created if it does not exist, and other files in it stay. Relative paths start from the caller's current folder.
   */
  output?: string;
  /**
   * Gives the guest a network besides its loopback interface. It reaches what this machine reaches over TCP and UDP,
   * and this machine itself as 10.0.2.2; nothing can connect to the guest.
   */
  network?: boolean;
  /** Devices to add, as for QEMU's `-device`, e.g. `['virtio-gpu-pci']`. */
  devices?: readonly string[];
  /** Machine types and properties, as for QEMU's `-machine`, e.g. `['q35']`. */
  machine?: readonly string[];
  /**
   * A file for a picture of the guest's display, taken when the command ends, or whenever it runs
   * `$DMABUF_VM_SCREENDUMP`. The format is PPM if the name ends in `.ppm`, else PNG. One of `devices` has to be a
   * display.
   */
  screendump?: string;
  /** Receives the command's standard output, byte for byte; by default `process.stdout`. */
  stdout?: Writable;
  /** Receives the command's standard error, byte for byte; by default `process.stderr`. */
  stderr?: Writable;
  /** Receives the kernel's console as it is written; by default only its last lines are kept, for errors. */
  console?: Writable;
  /**
   * Receives the kernel's log as it is written, line by line, in the format of `dmesg`. Unlike the console, it is
   * complete. By default it is kept in memory, for errors, and with `output` also in the folder, as `kernel.log`.
   */
  kernelLog?: Writable;
  /** Called with short sentences about what the runner is doing. By default they are dropped. */
  progress?: (message: string) => void;
  /** Ends the guest when it aborts; the promise then rejects with `ERR_DMABUF_VM_ABORTED`. */
  signal?: AbortSignal;
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
  signal: withMethod('addEventListener', 'an AbortSignal'),
};

/** The names of all options. */
export const VM_OPTIONS: readonly string[] = Object.keys(kinds);

/** Throws for an option of another type; one that may be left out may be undefined. */
function checkTypes(options: VmOptions): void {
  for (const [name, [words, isRight]] of Object.entries(kinds)) {
    const value = (options as VmOptions | undefined)?.[name as keyof VmOptions];
    if (value === undefined && name !== 'command') continue;
    if (!isRight(value)) throw wrong(`${name} must be ${words}, not ${inspect(value, { depth: 0 })}`);
  }
}

/**
 * Checks the options and fills in the defaults; throws a `VmError` with `ERR_DMABUF_VM_OPTION`, and a TypeError
 * `ERR_INVALID_ARG_VALUE` for an option that does not exist.
 */
export function resolveOptions(given: VmOptions): VmSettings {
  const options = readOptions(given, VM_OPTIONS) as VmOptions;
  checkTypes(options);
  const icount = options.icount ?? false;
  const accel = options.accel ?? 'auto';
  const cwd = options.cwd ?? process.cwd();
  if (options.output === '' || options.output?.includes('\0'))
    throw wrong('output must be the path of a folder');
  const target = options.output && resolve(options.output);
  const output = target === undefined ? undefined : { path: target, target };
  if (options.screendump === '') throw wrong('screendump must be the path of a file');
  const screendump = options.screendump === undefined ? undefined : resolve(options.screendump);
  if (options.command.length === 0 || options.command[0] === '') throw wrong('command is empty');
  if (options.command[0]?.includes('=')) throw wrong(`a program name with '=' in it cannot be run`);
  for (const word of options.command) {
    if (word.includes('\0')) throw wrong('command contains a NUL character');
  }
  if (!['auto', 'tcg', 'kvm'].includes(accel)) throw wrong(`accel must be auto, tcg or kvm, not '${accel}'`);
  const arch = options.arch ?? 'x64';
  if (!ARCHS.includes(arch)) throw wrong(`arch must be ${ARCHS.join(' or ')}, not '${arch}'`);
  if (arch !== 'x64') checkForeign(arch, options);
  const devices = qemuWords('device', options.devices, arch);
  if (screendump !== undefined) checkScreendump(screendump, devices);
  if (icount && accel === 'kvm') throw wrong('icount counts emulated instructions, which KVM does not have');
  if (icount && (options.cpus ?? 1) !== 1) throw wrong('icount works with one CPU only');
  if (!isAbsolute(cwd)) throw wrong(`cwd must be an absolute path, not '${cwd}'`);
  for (const word of options.kernelArguments ?? []) {
    if (/[\0\n]/.test(word)) throw wrong('a kernel argument contains a line break or NUL character');
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
    cpus: whole('cpus', options.cpus ?? (icount ? 1 : 2), 1, 255),
    memory: whole('memory', options.memory ?? 4096, 128, 16 * 1024 * 1024),
    timeout: positive('timeout', options.timeout ?? (terminal ? LONGEST_TIMEOUT : 600)),
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
    signal: options.signal,
  };
}

/** Refuses options that need this machine's processor or kernel. */
function checkForeign(arch: Arch, { accel, kernel }: VmOptions): void {
  if (accel === 'kvm')
    throw wrong(`accel (--accel) kvm runs this machine's processor only, and arch is ${arch}`);
  if (kernel === 'host') throw wrong(`kernel (--kernel) host is this machine's kernel, and arch is ${arch}`);
}

function checkTerminal({ stdin, stdout }: VmOptions): void {
  if (stdin !== undefined || stdout !== undefined) {
    throw wrong("terminal joins this process's own terminal, so that stdin and stdout cannot be given");
  }
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    throw wrong('terminal (--shell) needs a terminal: standard input and standard output must be one');
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
      throw wrong(`${option} (--${option}) is empty or contains a NUL character`);
    if (/(^|,)(help|\?)(,|$)/.test(word)) {
      throw wrong(
        `${option} (--${option}): for QEMU's help, run: ${ARCHITECTURES[arch].qemu} -${option} ${word}`,
      );
    }
  }
  return words;
}

/** A whole number in its range; throws a `VmError` for anything else. */
export function whole(name: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw wrong(`${name} must be a whole number from ${least} to ${most}, not ${value}`);
}

/** Node's timers hold at most 31 bits of milliseconds. */
const LONGEST_TIMEOUT = 2_147_483;

function positive(name: string, value: number): number {
  if (value > 0 && value <= LONGEST_TIMEOUT) return value;
  throw wrong(`${name} must be a number of seconds above 0 and up to ${LONGEST_TIMEOUT}, not ${value}`);
}

/** The error for a wrong option. */
export function wrong(message: string): VmError {
  return new VmError('ERR_DMABUF_VM_OPTION', message);
}
