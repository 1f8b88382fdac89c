import { VmError } from './errors.js';
import { BOOT_MODULES } from './guest.js';
import { type GuestResult, runGuest } from './guest-process.js';
import { makeInitramfs } from './initramfs.js';
import { findKernel } from './kernels.js';
import { indexModules, resolveModules } from './modules.js';
import { resolveOptions, type VmOptions } from './options.js';
import { provideTools } from './provision.js';

/** What became of the command. */
export interface VmResult {
  /** The command's exit status; 128 + N when signal N ended it, 127 when there is no such program. */
  exitCode: number;
  /**
   * The processes the guest's kernel killed because its memory was used up, the command itself perhaps among
   * them; empty when all went well.
   */
  outOfMemory: readonly { name: string; pid: number }[];
}

/**
 * Runs a command on a real kernel: boots it in QEMU with this machine's files under a writable layer that is
 * dropped at the end, and resolves with the command's exit status.
 *
 * What is missing (QEMU, busybox, the kernel) is installed or fetched first; that takes as long as it takes and
 * does not count against the time limit.
 *
 * Rejects with a {@link VmError} when the runner or the guest fails, as opposed to the command.
 *
 * ```js
 * const { exitCode } = await runInVm({ command: ['node', '--test'], modules: ['vgem'] });
 * ```
 */
export async function runInVm(options: VmOptions): Promise<VmResult> {
  const settings = resolveOptions(options);
  const { progress, signal } = settings;
  const tools = await provideTools(settings);
  const kernel = await findKernel(settings.kernel, settings);
  const index = indexModules(kernel.modulesDir);
  const modules = await resolveModules(index, BOOT_MODULES, { optional: true });
  const extra = await resolveModules(index, settings.modules);
  const initramfs = makeInitramfs(
    tools.busybox,
    [...modules, ...extra.filter(({ name }) => !modules.some((module) => module.name === name))],
    settings,
  );
  progress(`booting ${kernel.release}`);
  const result: GuestResult = await runGuest({
    qemu: tools.qemu,
    machine: {
      kernelImage: kernel.image,
      accel: 'tcg',
      icount: settings.icount,
      cpus: settings.cpus,
      memory: settings.memory,
      kernelArguments: settings.kernelArguments,
    },
    initramfs,
    timeout: settings.timeout,
    stdout: settings.stdout,
    stderr: settings.stderr,
    console: settings.console,
    signal,
  });
  return result;
}
