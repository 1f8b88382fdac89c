import { ARCHITECTURES, type Arch } from './arch.js';
import { VmError } from './errors.js';
import type { KernelConfig } from './kernel-config.js';
import { type ModuleIndex, moduleName } from './modules.js';

/** Something that a kernel needs for a guest. */
interface Need {
  /** The option of its configuration, without `CONFIG_`. */
  option: string;
  /** The module, where it may be one. */
  module?: string;
  why: string;
}

const NEEDS: readonly Need[] = [
  { option: 'BLK_DEV_INITRD', why: 'the initramfs, from which the guest starts' },
  { option: 'BINFMT_ELF', why: 'programs' },
  { option: 'BINFMT_SCRIPT', why: 'the first program, a script' },
  { option: 'PROC_FS', why: '/proc' },
  { option: 'SYSFS', why: '/sys' },
  { option: 'DEVTMPFS', why: '/dev' },
  { option: 'TMPFS', why: 'what the guest writes' },
  { option: 'PCI', why: "QEMU's devices" },
  { option: 'VIRTIO_PCI', module: 'virtio_pci', why: "QEMU's devices" },
  { option: 'VIRTIO_CONSOLE', module: 'virtio_console', why: "the command's output" },
  { option: 'NET_9P', module: '9pnet', why: "this machine's files" },
  { option: 'NET_9P_VIRTIO', module: '9pnet_virtio', why: "this machine's files" },
  { option: '9P_FS', module: '9p', why: "this machine's files" },
  { option: 'OVERLAY_FS', module: 'overlay', why: 'writing over them' },
];
const NETWORK: Need = { option: 'VIRTIO_NET', module: 'virtio_net', why: '--network' };

/** Without it a guest works, and a crash is not explained. */
const CONSOLE = ['TTY', 'PRINTK'];

/**
 * Says what a kernel lacks of what a guest needs, before it is booted: by its configuration, or else by the list of what is
 * built in that comes with its modules.
 *
 * @throws VmError `ERR_DMABUF_VM_KERNEL` with the options that are missing
 */
export function checkKernel(
  kernel: { arch: Arch; image: string; modulesDir: string | undefined },
  index: ModuleIndex,
  config: KernelConfig | undefined,
  options: { network: boolean; progress: (message: string) => void },
): void {
  const needs = options.network ? [...NEEDS, NETWORK] : NEEDS;
  const lacking =
    config === undefined
      ? lackingByModules(needs, index)
      : needs.flatMap((need) => lackingByConfig(need, index, config.values, kernel.modulesDir));
  if (lacking.length > 0) {
    const source = config?.source ?? `${kernel.modulesDir}/modules.builtin and the modules beside it`;
    throw new VmError(
      'ERR_DMABUF_VM_KERNEL',
      `the kernel ${kernel.image} lacks what a guest needs, by ${source}:\n${lacking.map((line) => `  ${line}`).join('\n')}`,
      {
        hint: 'Build it with these options, built in or as modules; --modules-dir names the folder of modules that are not beside it',
      },
    );
  }
  const onSerialLine = [...CONSOLE, ...ARCHITECTURES[kernel.arch].console];
  const silent = onSerialLine.filter((option) => config !== undefined && config.values.get(option) !== 'y');
  if (silent.length > 0) {
    const names = silent.map((option) => `CONFIG_${option}`).join(', ');
    options.progress(
      `the kernel has no console on a serial line (${names}): what it says as it crashes is lost`,
    );
  }
}

function lackingByConfig(
  { option, module, why }: Need,
  index: ModuleIndex,
  values: KernelConfig['values'],
  modulesDir: string | undefined,
): string[] {
  const value = values.get(option);
  if (value === 'y') return [];
  if (value !== 'm') return [`CONFIG_${option} is not set: ${why}`];
  if (module === undefined) return [`CONFIG_${option} is a module and must be built in: ${why}`];
  if (index.files.has(moduleName(module))) return [];
  const where = modulesDir === undefined ? 'there are no modules' : `it is not in ${modulesDir}`;
  return [`CONFIG_${option} is the module ${module}, and ${where}: ${why}`];
}

/** Where a kernel has modules, what could be one and is neither a file nor built in is not there. */
function lackingByModules(needs: readonly Need[], { files, builtIn }: ModuleIndex): string[] {
  if (builtIn.size === 0) return [];
  return needs
    .filter(({ module }) => module !== undefined && !files.has(module) && !builtIn.has(module))
    .map(({ option, why }) => `CONFIG_${option} is not set: ${why}`);
}

/** What the kernel prints when it crashes because an option is missing, and which option that is. */
const SIGNS: readonly [sign: RegExp, lacking: string][] = [
  [
    /VFS: (Unable to mount root fs|Cannot open root device)|No filesystem could mount root/,
    'CONFIG_BLK_DEV_INITRD',
  ],
  [/Failed to execute \/init \(error -8\)/, 'CONFIG_BINFMT_SCRIPT or CONFIG_BINFMT_ELF'],
  [/Failed to execute \/init \(error -2\)/, 'CONFIG_BINFMT_SCRIPT or CONFIG_BLK_DEV_INITRD'],
];

/** What a kernel that did not boot lacks, by what it said; undefined where that does not tell. */
export function lackingByBoot(log: string): string | undefined {
  const told = /dmabuf vm: KERNEL (.*)/.exec(log)?.[1];
  if (told !== undefined) return told.trim();
  const option = SIGNS.find(([sign]) => sign.test(log))?.[1];
  if (option !== undefined) return `the kernel has found nothing to start from: it lacks ${option}`;
  return undefined;
}

/** For a guest of which nothing at all was heard. */
export const SILENT: string =
  'Nothing was heard of the kernel. One that can show what it does has CONFIG_PRINTK, CONFIG_TTY and a console on the ' +
  'serial line (on x86 CONFIG_SERIAL_8250_CONSOLE, on arm64 CONFIG_SERIAL_AMBA_PL011_CONSOLE), and has 64 bits (CONFIG_64BIT).';
