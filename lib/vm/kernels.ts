import { existsSync, readFileSync, statSync } from 'node:fs';
import { release } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { Arch } from './arch.js';
import { VmError } from './errors.js';
import { readImage } from './kernel-image.js';
import { isDebianName, KERNEL_NAMES, provideKernel } from './named-kernels.js';

/** A kernel to boot. */
export interface Kernel {
  arch: Arch;
  /** As `uname -r` would print it, where the image tells. */
  release: string;
  image: string;
  /** Folder laid out as `/lib/modules/<release>`; absent for a kernel that has everything built in. */
  modulesDir: string | undefined;
}

/** Finds the kernel for `arch` (x64 where it is not given) that `name` means, and fetches it if it is one of Debian's and not in the cache yet. */
export async function findKernel(
  name: string,
  options: {
    arch?: Arch;
    modulesDir?: string | undefined;
    progress: (message: string) => void;
    signal?: AbortSignal | undefined;
  },
): Promise<Kernel> {
  const { arch = 'x64' } = options;
  const kernel = await locate(name, arch, options);
  if (kernel.arch !== arch) {
    throw new VmError(
      'ERR_DMABUF_VM_KERNEL',
      `the kernel ${kernel.image} is made for ${kernel.arch}, and the guest is to be ${arch}`,
      { hint: 'The option arch (--arch) says what the guest is to be' },
    );
  }
  if (options.modulesDir === undefined) return kernel;
  if (!isFolder(options.modulesDir)) {
    throw new VmError('ERR_DMABUF_VM_KERNEL', `the modules folder ${options.modulesDir} does not exist`);
  }
  return { ...kernel, modulesDir: resolve(options.modulesDir) };
}

async function locate(name: string, arch: Arch, options: Parameters<typeof findKernel>[1]): Promise<Kernel> {
  if (name === 'host') return hostKernel();
  if (isDebianName(name)) return kernelFolder(await provideKernel(name, arch, options));
  const path = resolve(name);
  if (isFolder(path)) return kernelFolder(path);
  if (existsSync(path)) return kernelImage(path);
  if (name.includes('/')) {
    throw new VmError(
      'ERR_DMABUF_VM_KERNEL',
      `the kernel ${path} does not exist: there is no such file or folder`,
    );
  }
  throw new VmError('ERR_DMABUF_VM_KERNEL', `there is no kernel '${name}'`, {
    hint:
      `Give ${KERNEL_NAMES.join(', ')} or a series such as 6.12 (Debian's, fetched when needed), 'host', ` +
      "or the path of a kernel image or of a folder with 'vmlinuz' in it",
  });
}

function hostKernel(): Kernel {
  const version = release();
  const image = `/boot/vmlinuz-${version}`;
  if (!existsSync(image)) {
    throw new VmError('ERR_DMABUF_VM_KERNEL', `this machine's own kernel is not at ${image}`);
  }
  const config = `/boot/config-${version}`;
  if (!existsSync(config) || !/^CONFIG_DMABUF_HEAPS=y$/m.test(readFileSync(config, 'utf8'))) {
    throw new VmError(
      'ERR_DMABUF_VM_KERNEL',
      `this machine's own kernel ${version} has no dma-buf heaps (no CONFIG_DMABUF_HEAPS=y in ${config})`,
    );
  }
  return kernelImage(image);
}

/** A folder as in the cache, or as Debian's packages install it: `vmlinuz`, and the modules in it or beside. */
function kernelFolder(folder: string): Kernel {
  const image = join(folder, 'vmlinuz');
  if (!existsSync(image)) {
    throw new VmError('ERR_DMABUF_VM_KERNEL', `there is no file 'vmlinuz' in ${folder}`);
  }
  return kernelImage(image);
}

function kernelImage(image: string): Kernel {
  const { release, arch } = readImage(image);
  const folder = dirname(image);
  const candidates = [
    join(folder, 'modules'),
    folder,
    join(folder, '..', 'lib', 'modules', release),
    join('/lib/modules', release),
  ];
  const modulesDir = candidates.find((candidate) => isFolder(join(candidate, 'kernel')));
  return { arch, release, image, modulesDir };
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
