import { randomUUID } from 'node:crypto';
import { dirname, join } from 'node:path';
import { Writable } from 'node:stream';
import { joinSignals } from '../abort.js';
import { chooseAccelerator, mayBeOfKvm, TRIAL_DURATION, trialMemory } from './accel.js';
import { withBuiltModules } from './built-modules.js';
import { cacheFolder, usingCache } from './cache-folder.js';
import { VmError, type VmErrorCode } from './errors.js';
import { provideForeign } from './foreign.js';
import { BOOT_MODULES } from './guest.js';
import { type GuestResult, HungAtBoot, type Killed, runGuest } from './guest-process.js';
import { makeInitramfs } from './initramfs.js';
import { type InputSource, pipedInput } from './input.js';
import { findConfig } from './kernel-config.js';
import type { Splat } from './kernel-log.js';
import { checkKernel } from './kernel-needs.js';
import { findKernel, type Kernel } from './kernels.js';
import { indexModules, type KernelModule, readModule, resolveModules } from './modules.js';
import { isDebianName } from './named-kernels.js';
import { resolveOptions, type VmOptions, type VmSettings } from './options.js';
import { withOutput } from './output-folder.js';
import { findProgram } from './process.js';
import { provideTools } from './provision.js';
import { terminalInput } from './terminal.js';

/** The result of the command. */
export interface VmResult {
  /** The release of the kernel that ran, as `uname -r` prints it. */
  release: string;
  /** The command's exit status: 128 + N when signal N ended it, 127 when there is no such program. */
  exitCode: number;
  /**
   * The processes that the guest's kernel killed because its memory, or that of a control group, was used up; the
   * command itself may be among them. Normally empty.
   */
  outOfMemory: readonly Killed[];
  /**
   * The faults that the guest's kernel has reported about itself since its boot: warnings, bugs, reports of its
   * checkers.
   */
  splats: readonly Splat[];
}

/**
 * Runs a command on a real kernel: boots the kernel in a virtual machine of QEMU (the guest) and resolves with the
 * command's exit status. The guest sees this machine's files; what it writes is dropped at the end.
 *
 * If QEMU, busybox or the kernel is missing, it is installed or downloaded first; this does not count against the time
 * limit.
 *
 * @throws VmError when the runner or the guest fails, as opposed to the command; its `code` names the failure
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; `ERR_INVALID_ARG_VALUE` for an option that does not exist, and for options that do
 *   not go together
 * @throws RangeError `ERR_OUT_OF_RANGE`
 *
 * ```js
 * const { exitCode } = await runInVm({ command: ['node', '--test'], modules: ['vgem'] });
 * ```
 */
export async function runInVm(options: VmOptions): Promise<VmResult> {
  return runWith(resolveOptions(options));
}

/** The same with checked options; `onKernel` is called with the kernel just before it boots. */
export async function runWith(
  asked: VmSettings,
  onKernel: (release: string) => void = () => {},
): Promise<VmResult> {
  const { signal, leave } = joinSignals(asked.signal);
  const settings = { ...asked, signal };
  try {
    return await withOutput(settings, ({ share, kernelLog }) =>
      provideAndRun({ ...settings, kernelLog }, onKernel, share),
    );
  } catch (error) {
    // The step that was active when the caller aborted has failed for that reason.
    signal.throwIfAborted();
    throw error;
  } finally {
    leave();
  }
}

async function provideAndRun(
  settings: VmSettings,
  onKernel: (release: string) => void,
  share: string | undefined,
): Promise<VmResult> {
  settings.signal?.throwIfAborted();
  const tools = await usingCache(() => provideTools(settings, settings.arch));
  const foreign = settings.arch === 'x64' ? undefined : await usingCache(() => provideForeign(settings));
  const kernel = await usingCache(() => findKernel(settings.kernel, settings));
  onKernel(kernel.release);
  const modules = await guestModules(kernel, settings, tools.busybox);
  const scriptProgram = findScript(settings);
  let started = false;
  const endMark = `\x1edmabuf-vm ${randomUUID()}`;
  // The first attempt is quiet, which is faster.
  let verbose = false;
  const boot = (accel: 'tcg' | 'kvm', job: VmSettings): Promise<GuestResult> =>
    runGuest({
      ...job,
      ...tools,
      ...inputOf(job, tools.busybox),
      endMark,
      onStart: () => {
        started = job === settings;
      },
      machine: {
        ...job,
        accel,
        verbose,
        kernelImage: kernel.image,
        programs: foreign?.programs,
        share: job.output && share,
        monitor: job.screendump !== undefined,
      },
      initramfs: makeInitramfs(tools.guestBusybox, modules, {
        ...job,
        ...(foreign && { env: { ...job.env, PATH: `${dirname(foreign.node)}:${job.env.PATH}` } }),
        node: foreign && { program: foreign.node, path: process.execPath },
        hasPrograms: foreign !== undefined,
        input: job.terminal ? 'terminal' : job.stdin === undefined ? 'nothing' : 'pipe',
        scriptProgram,
        hasEvents: job.events !== undefined,
        endMark,
      }),
    });

  const memory = trialMemory(join(cacheFolder(), 'kvm'), kernel.release);
  let accel = await chooseAccelerator(settings, memory, () => boot('kvm', trialJob(settings)));
  settings.progress(`booting ${kernel.release}`);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return { release: kernel.release, ...(await boot(accel, settings)) };
    } catch (error) {
      // Once the command has started, its output was passed on, and it must not run a second time.
      if (started || settings.signal?.aborted || !(error instanceof VmError)) throw error;
      if (settings.accel === 'auto' && accel === 'kvm' && mayBeOfKvm(error)) {
        memory.write(false);
        settings.progress('the guest did not boot with KVM: emulating');
        accel = 'tcg';
      } else if (attempt < BOOT_ATTEMPTS && crashedAtBoot(error)) {
        verbose = true;
        settings.progress('the guest crashed while booting: trying again');
      } else throw error;
    }
  }
}

/**
 * With several emulated CPUs, a kernel occasionally crashes while it patches its own code at boot (seen: "Oops: int3"
 * in QEMU 7.2). Everything that was done by then can be repeated.
 */
const BOOT_ATTEMPTS = 3;
const CRASHED_AT_BOOT: readonly VmErrorCode[] = ['ERR_DMABUF_VM_BOOT', 'ERR_DMABUF_VM_PANIC'];

function crashedAtBoot(error: VmError): boolean {
  return CRASHED_AT_BOOT.includes(error.code) && !(error instanceof HungAtBoot);
}

async function guestModules(kernel: Kernel, settings: VmSettings, busybox: string): Promise<KernelModule[]> {
  const wanted = settings.modules;
  const index = await usingCache(() =>
    withBuiltModules(indexModules(kernel.modulesDir), wanted, kernel, settings),
  );
  if (!isDebianName(settings.kernel)) {
    checkKernel(kernel, index, await findConfig(kernel, busybox), settings);
  }
  const read = (path: string): Promise<Buffer> => readModule(path, busybox);
  const names = settings.network ? [...BOOT_MODULES, 'virtio_net'] : BOOT_MODULES;
  const modules = await resolveModules(index, names, { optional: true, read });
  const known = new Set(modules.map(({ name }) => name));
  const extra = await resolveModules(index, wanted, { read });
  return [...modules, ...extra.filter(({ name }) => !known.has(name))];
}

/** The source of the input and, with a terminal, the destination of the output. */
function inputOf(
  { terminal, stdin, stdout }: VmSettings,
  busybox: string,
): { input: InputSource | undefined; stdout: Writable } {
  if (terminal) return terminalInput(busybox);
  return { input: stdin === undefined ? undefined : pipedInput(stdin), stdout };
}

/** The program that makes a terminal in the guest, which has this machine's files, or its own programs. */
function findScript({ terminal, arch }: VmSettings): string {
  const program = arch !== 'x64' ? '/usr/bin/script' : terminal ? findProgram('script') : '';
  if (program !== undefined) return program;
  throw new VmError(
    'ERR_DMABUF_VM_TOOL',
    "the program 'script' of util-linux, which a terminal needs, is missing",
    { hint: "Run 'sudo apt-get install bsdutils'" },
  );
}

function trialJob(settings: VmSettings): VmSettings {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const nothing = {
    stdin: undefined,
    events: undefined,
    terminal: false,
    output: undefined,
    kernelLog: undefined,
    screendump: undefined,
    devices: [],
    machine: [],
    network: false,
    stdout: nowhere,
    stderr: nowhere,
  };
  return { ...settings, ...nothing, command: ['true'], timeout: TRIAL_DURATION };
}
