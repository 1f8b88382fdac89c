/** The processors that a guest can have, as Node.js calls them. */
export type Arch = 'x64' | 'arm64';

/** What differs between the guests of two processors. */
interface Architecture {
  /** Debian's name for it. */
  debian: 'amd64' | 'arm64';
  /** What the names of GNU's compilers and of folders of libraries begin with. */
  gnu: string;
  qemu: string;
  qemuPackage: string;
  /** The machine, where QEMU has none that it takes by itself. */
  machine: readonly string[];
  /** What an emulated processor can do. */
  cpu: string;
  kernelArguments: string;
  /** Of a kernel's configuration: what its console on QEMU's serial line needs. */
  console: readonly string[];
}

export const ARCHITECTURES: Readonly<Record<Arch, Architecture>> = {
  x64: {
    debian: 'amd64',
    gnu: 'x86_64-linux-gnu',
    qemu: 'qemu-system-x86_64',
    qemuPackage: 'qemu-system-x86',
    machine: [],
    cpu: 'max',
    // no_timer_check: on a busy host, the check at boot takes the emulated timer for broken, and panics.
    // tsc=nowatchdog: on a busy host, the kernel finds its clock unstable and patches its code: QEMU 7.2 crashes it then.
    kernelArguments: 'console=ttyS0 no_timer_check tsc=nowatchdog',
    console: ['SERIAL_8250', 'SERIAL_8250_CONSOLE'],
  },
  arm64: {
    debian: 'arm64',
    gnu: 'aarch64-linux-gnu',
    qemu: 'qemu-system-aarch64',
    qemuPackage: 'qemu-system-arm',
    machine: ['-machine', 'virt'],
    // Pointers are signed by a cheap algorithm: the architecture's own takes half as long again for everything.
    cpu: 'max,pauth-impdef=on',
    kernelArguments: 'console=ttyAMA0',
    console: ['SERIAL_AMBA_PL011', 'SERIAL_AMBA_PL011_CONSOLE'],
  },
};

/** The names of all. */
export const ARCHS = Object.keys(ARCHITECTURES) as readonly Arch[];

/** The processor that a release of Debian's kernels is for, by its name. */
export function archOfRelease(release: string): Arch | undefined {
  return ARCHS.find((arch) => new RegExp(`-${ARCHITECTURES[arch].debian}(-16k)?$`).test(release));
}
