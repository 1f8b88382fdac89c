import { readFileSync } from 'node:fs';
import { type CpioEntry, writeCpio } from './cpio.js';
import { APPLETS, commandScript, type GuestCommand, INIT_SCRIPT, terminalScript } from './guest.js';
import type { KernelModule } from './modules.js';

/**
 * Makes the guest's first root filesystem: busybox, the modules in load order, and the scripts; with the place for programs
 * that lie over the host's, where it has such.
 */
export function makeInitramfs(
  busybox: string,
  modules: readonly KernelModule[],
  job: GuestCommand & { hasPrograms: boolean },
): Buffer {
  const entries: CpioEntry[] = [
    { path: 'init', data: INIT_SCRIPT, mode: 0o755 },
    { path: 'command.sh', data: commandScript(job), mode: 0o600 },
    ...(job.input === 'terminal' ? [{ path: 'terminal.sh', data: terminalScript(job), mode: 0o600 }] : []),
    { path: 'bin/busybox', data: readFileSync(busybox), mode: 0o755 },
    ...APPLETS.map((applet) => ({ path: `bin/${applet}`, linkTo: 'busybox' })),
    { path: 'modules/list', data: modules.map(({ name }) => `${name}\n`).join('') },
    ...modules.map(({ name, data }) => ({ path: `modules/${name}.ko`, data })),
    ...['dev', 'proc', 'sys', ...(job.hasPrograms ? ['programs'] : [])].map((path) => ({
      path,
      directory: true as const,
    })),
  ];
  return writeCpio(entries);
}
