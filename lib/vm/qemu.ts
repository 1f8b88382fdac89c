import { ARCHITECTURES, type Arch } from './arch.js';
import { PORTS } from './guest.js';

/** A guest machine, as QEMU needs it described. */
export interface Machine {
  arch: Arch;
  kernelImage: string;
  /** Path under which QEMU itself can open the initramfs. */
  initramfs: string;
  accel: 'tcg' | 'kvm';
  icount: boolean;
  cpus: number;
  /** MiB */
  memory: number;
  kernelArguments: readonly string[];
  /** Whether the kernel prints everything on the console, and not only what is serious. */
  verbose?: boolean;
  /** The folder whose programs lie over this machine's in the guest, where it could not run these. */
  programs: string | undefined;
  /** The folder of this machine's that the guest writes to. */
  share: string | undefined;
  network: boolean;
  /** As QEMU's `-device` and `-machine` take them. */
  devices: readonly string[];
  machine: readonly string[];
  /** Whether a program speaks to QEMU's monitor. */
  monitor: boolean;
  /** QEMU's own numbers of the connected sockets that carry the guest's output. */
  sockets: Record<'console' | 'monitor' | keyof typeof PORTS, number>;
}

/** QEMU's command line. */
export function qemuArguments(machine: Machine): string[] {
  const { sockets } = machine;
  const port = (name: keyof typeof PORTS): string[] => [
    ...['-chardev', `socket,id=${name},fd=${sockets[name]}`],
    ...['-device', `virtserialport,chardev=${name},nr=${PORTS[name]},name=dmabuf.${name}`],
  ];
  return [
    ...ARCHITECTURES[machine.arch].machine,
    ...processor(machine),
    ...['-smp', String(machine.cpus), '-m', String(machine.memory)],
    ...['-display', 'none', '-nodefaults', '-vga', 'none', '-no-reboot'],
    ...(machine.network ? NETWORK : ['-net', 'none']),
    ...machine.machine.flatMap((words) => ['-machine', words]),
    ...['-virtfs', 'local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap'],
    ...(machine.programs === undefined
      ? []
      : ['-virtfs', `${folderOf(machine.programs)},mount_tag=programs,security_model=none,readonly=on`]),
    ...(machine.share === undefined ? [] : ['-virtfs', outputShare(machine.share)]),
    ...['-chardev', `socket,id=console,fd=${sockets.console}`, '-serial', 'chardev:console'],
    ...['-device', 'virtio-serial-pci,max_ports=8'],
    ...port('stdout'),
    ...port('stderr'),
    ...port('control'),
    ...port('stdin'),
    ...port('events'),
    ...port('log'),
    ...(machine.monitor
      ? ['-chardev', `socket,id=monitor,fd=${sockets.monitor}`, '-mon', 'chardev=monitor,mode=control']
      : []),
    ...machine.devices.flatMap((words) => ['-device', words]),
    ...['-kernel', machine.kernelImage, '-initrd', machine.initramfs],
    ...[
      '-append',
      [
        ...[ARCHITECTURES[machine.arch].kernelArguments, KERNEL_ARGUMENTS],
        ...[machine.verbose ? 'loglevel=7' : 'quiet', ...machine.kernelArguments],
      ].join(' '),
    ],
  ];
}

/** A card without the firmware for booting from it, which Debian has in a package of its own. */
const NETWORK = [
  ...['-netdev', 'user,id=network,ipv6=off'],
  ...['-device', 'virtio-net-pci,netdev=network,romfile='],
];

function outputShare(folder: string): string {
  return `${folderOf(folder)},mount_tag=output,security_model=mapped-file,multidevs=remap`;
}

/** QEMU's options end at a comma that is not doubled. */
function folderOf(path: string): string {
  return `local,path=${path.replaceAll(',', ',,')}`;
}

/** `oops=panic`: a kernel that has stumbled says so and ends instead of hanging later. */
const KERNEL_ARGUMENTS = 'panic=-1 oops=panic';

/**
 * What copies and clears memory by one instruction for all of it counts each byte as one more. Without these features (ERMS,
 * FSRM), the kernel and the C library take instructions for many bytes.
 */
const COUNTED = { x64: ',erms=off,fsrm=off', arm64: '' };

function processor({ arch, accel, icount }: Machine): string[] {
  const { cpu } = ARCHITECTURES[arch];
  const counted = cpu + COUNTED[arch];
  if (icount) return ['-accel', 'tcg,thread=single', '-cpu', counted, '-icount', 'shift=0,sleep=off'];
  if (accel === 'kvm') return ['-accel', 'kvm', '-cpu', 'host'];
  return ['-accel', 'tcg,thread=multi', '-cpu', cpu];
}
