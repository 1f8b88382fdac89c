import {
  accessSync,
  constants,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { VmError, type VmErrorCode } from './errors.js';
import type { VmSettings } from './options.js';

/** Long enough for a slow host, short enough to be waited for once per kernel and boot; milliseconds. */
export const TRIAL_DURATION = 30_000;

/**
 * Chooses how the guest's instructions are executed.
 * `/dev/kvm` can exist and yet not work (nested virtualisation), so `auto` takes it only when a trial boot has
 * succeeded; the outcome is kept for as long as the host is not rebooted.
 */
export async function chooseAccelerator(
  settings: Pick<VmSettings, 'accel' | 'progress' | 'signal'> & { kvmUsable?: () => boolean },
  memory: TrialMemory,
  trial: () => Promise<unknown>,
): Promise<'tcg' | 'kvm'> {
  if (settings.accel !== 'auto') return settings.accel;
  if (!(settings.kvmUsable ?? kvmAccessible)()) return 'tcg';
  const known = memory.read();
  if (known !== undefined) return known ? 'kvm' : 'tcg';
  settings.progress('trying whether KVM works with this kernel …');
  try {
    await trial();
    memory.write(true);
    return 'kvm';
  } catch (error) {
    if (settings.signal?.aborted || !mayBeOfKvm(error)) throw error;
    memory.write(false);
    settings.progress('KVM does not work here: emulating');
    return 'tcg';
  }
}

/** How a guest ends when KVM does not work; what QEMU or the guest refuse would be refused without KVM, too. */
const ENDS_OF_KVM: readonly VmErrorCode[] = [
  'ERR_DMABUF_VM_QEMU',
  'ERR_DMABUF_VM_BOOT',
  'ERR_DMABUF_VM_PANIC',
  'ERR_DMABUF_VM_DIED',
  'ETIMEDOUT',
];

/** Whether a guest that ended so might not have done so without KVM. */
export function mayBeOfKvm(error: unknown): boolean {
  return error instanceof VmError && ENDS_OF_KVM.includes(error.code);
}

/** Remembers whether KVM works. */
export interface TrialMemory {
  read(): boolean | undefined;
  write(works: boolean): void;
}

/** Remembers it in files below `folder`, per kernel and until the host is booted again. */
export function trialMemory(folder: string, release: string): TrialMemory {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const path = join(folder, boot, release);
  return {
    read() {
      try {
        return readFileSync(path, 'utf8') === 'works';
      } catch {
        return undefined;
      }
    },
    write(works) {
      try {
        mkdirSync(join(folder, boot), { recursive: true });
        for (const other of readdirSync(folder)) {
          if (other !== boot) rmSync(join(folder, other), { recursive: true, force: true });
        }
        const unfinished = `${path}.${process.pid}`;
        writeFileSync(unfinished, works ? 'works' : 'fails');
        renameSync(unfinished, path);
      } catch {
        // a cache that cannot be written only means another trial next time
      }
    },
  };
}

function kvmAccessible(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
