import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { homedir, release } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { downloadKernel, newestFirst, SERIES } from './debian-kernel.js';
import { VmError } from './errors.js';
import { withLock } from './lock.js';

/** A kernel to boot. */
export interface Kernel {
  /** As `uname -r` would print it, where the image tells. */
  release: string;
  image: string;
  /** Folder laid out as `/lib/modules/<release>`; absent for a kernel that has everything built in. */
  modulesDir: string | undefined;
}

/** The folder everything fetched is kept in: `$XDG_CACHE_HOME/dmabuf`, or `~/.cache/dmabuf`. */
export function cacheFolder(): string {
  const base = process.env.XDG_CACHE_HOME;
  return join(base?.startsWith('/') ? base : join(homedir(), '.cache'), 'dmabuf');
}

/** Finds the kernel that `name` means, and fetches it if it is one of Debian's and not in the cache yet. */
export async function findKernel(
  name: string,
  options: {
    modulesDir?: string | undefined;
    progress: (message: string) => void;
    signal?: AbortSignal | undefined;
  },
): Promise<Kernel> {
  const kernel = await locate(name, options);
  if (options.modulesDir === undefined) return kernel;
  if (!isFolder(options.modulesDir)) {
    throw new VmError('ERR_DMABUF_VM_KERNEL', `the modules folder ${options.modulesDir} does not exist`);
  }
  return { ...kernel, modulesDir: resolve(options.modulesDir) };
}

async function locate(name: string, options: Parameters<typeof findKernel>[1]): Promise<Kernel> {
  if (name === 'host') return hostKernel();
  if (Object.hasOwn(SERIES, name)) return cachedKernel(name, options);
  const path = resolve(name);
  if (isFolder(path)) return kernelFolder(path);
  if (existsSync(path)) return kernelImage(path);
  const known = Object.keys(SERIES).join(', ');
  throw new VmError(
    'ERR_DMABUF_VM_KERNEL',
    `there is no kernel '${name}': give one of ${known} (Debian's, fetched when needed), 'host', ` +
      "or the path of a kernel image or of a folder with 'vmlinuz' in it",
  );
}

async function cachedKernel(series: string, options: Parameters<typeof findKernel>[1]): Promise<Kernel> {
  const folder = join(cacheFolder(), 'kernels');
  const cached = (): Kernel | undefined => {
    const match = new RegExp(`^${SERIES[series]?.versions}$`);
    const versions = isFolder(folder) ? readdirSync(folder).filter((version) => match.test(version)) : [];
    const newest = newestFirst(versions)[0];
    return newest === undefined ? undefined : kernelFolder(join(folder, newest));
  };
  return (
    cached() ??
    withLock(join(folder, '.lock'), options, async () => {
      // another process may have fetched it while this one waited
      const found = cached();
      if (found !== undefined) return found;
      return kernelFolder(await downloadKernel(series, folder, options));
    })
  );
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
  const release = kernelRelease(image);
  const folder = dirname(image);
  const candidates = [
    join(folder, 'modules'),
    folder,
    join(folder, '..', 'lib', 'modules', release),
    join('/lib/modules', release),
  ];
  const modulesDir = candidates.find((candidate) => isFolder(join(candidate, 'kernel')));
  return { release, image, modulesDir };
}

/** Reads the version string out of an x86 kernel image; the boot protocol says where it is. */
function kernelRelease(image: string): string {
  const head = Buffer.alloc(64 * 1024);
  let file: number;
  try {
    file = openSync(image, 'r');
  } catch (error) {
    throw new VmError('ERR_DMABUF_VM_KERNEL', `the kernel ${image} cannot be read`, { cause: error });
  }
  try {
    readSync(file, head, 0, head.length, 0);
  } finally {
    closeSync(file);
  }
  if (head.toString('latin1', 0x202, 0x206) !== 'HdrS') {
    throw new VmError('ERR_DMABUF_VM_KERNEL', `${image} is not an x86 kernel image (bzImage)`);
  }
  const at = head.readUInt16LE(0x20e) + 0x200;
  return head.toString('latin1', at, head.indexOf(0, at)).split(' ', 1)[0] as string;
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
