// Debian's kernels for arm64 are built without dma-buf heaps. The kernel's own code for them, of Debian's source package,
// compiles as two modules that such a kernel loads.

import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { cached } from '../cached.mjs';
import { run } from '../setup.mjs';
import { unpackDebian } from './debian.mjs';

const modules = ['dma-heap', 'system_heap'];

/** Older compilers than the kernel's own call this option otherwise. */
const compiler = `#!/bin/sh
for argument; do
  shift
  case $argument in -fmin-function-alignment=*) argument=-falign-functions=\${argument#*=} ;; esac
  set -- "$@" "$argument"
done
exec aarch64-linux-gnu-gcc "$@"
`;

function writeProgram(path, text) {
  writeFileSync(path, text);
  chmodSync(path, 0o755);
}

async function build(folder, progress) {
  const work = join(folder, 'work');
  const series = '7\\.2\\.[0-9]+\\+deb13';
  const names = [
    `linux-binary-${series}-arm64`,
    `linux-headers-${series}-arm64`,
    `linux-headers-${series}-common`,
    'linux-source-7\\.2',
  ];
  await unpackDebian(work, { suite: 'trixie-backports', arch: 'arm64', names }, progress);
  const [release] = readdirSync(join(work, 'usr/lib/modules'));
  const version = release.replace(/-arm64$/, '');
  const tools = [`linux-kbuild-${version.replace(/[.+]/g, '\\$&')}`];
  await unpackDebian(work, { suite: 'trixie-backports', arch: 'amd64', names: tools }, progress);
  // One of the tools asks for the glibc of its suite.
  const libraries = join(folder, 'libraries');
  await unpackDebian(libraries, { suite: 'trixie', arch: 'amd64', names: ['libc6'] }, progress);
  const library = join(libraries, 'usr/lib/x86_64-linux-gnu');
  const modpost = join(work, `usr/lib/linux-kbuild-${version}/scripts/mod/modpost`);
  rmSync(modpost);
  writeProgram(
    modpost,
    `#!/bin/sh\nexec ${library}/ld-linux-x86-64.so.2 --library-path ${library} ${modpost}.real-lsb-64 "$@"\n`,
  );

  const source = join(work, 'usr/src/linux-source-7.2.tar.xz');
  const drivers = 'linux-source-7.2/drivers/dma-buf';
  const files = [`${drivers}/dma-heap.c`, `${drivers}/heaps/system_heap.c`];
  run("unpacking the kernel's heaps", 'tar', ['-xJf', source, '-C', work, ...files]);
  const place = join(folder, 'modules');
  mkdirSync(place);
  for (const file of files) copyFileSync(join(work, file), join(place, file.replace(/.*\//, '')));
  // What a part of the kernel need not say, and a module must.
  const says = '#include <linux/module.h>\nMODULE_LICENSE("GPL");\nMODULE_IMPORT_NS("DMA_BUF");\n';
  appendFileSync(join(place, 'dma-heap.c'), says);
  writeFileSync(join(place, 'Makefile'), `obj-m := ${modules.map((name) => `${name}.o`).join(' ')}\n`);
  writeProgram(join(folder, 'cc'), compiler);

  const headers = (kind) => join(work, `usr/src/linux-headers-${version}-${kind}`);
  rmSync(join(headers('arm64'), 'vmlinux'), { force: true }); // BTF for modules would need pahole
  const target = ['ARCH=arm64', 'CROSS_COMPILE=aarch64-linux-gnu-', `CC=${join(folder, 'cc')}`];
  const where = ['-C', headers('common'), `O=${headers('arm64')}`, `M=${place}`];
  run("compiling the kernel's heaps for arm64", 'make', [
    ...where,
    ...target,
    'CONFIG_DEBUG_INFO_BTF_MODULES=',
    'modules',
  ]);
  for (const name of modules) copyFileSync(join(place, `${name}.ko`), join(folder, `${name}.ko`));
  copyFileSync(join(work, `usr/lib/modules/${release}/vmlinuz`), join(folder, 'vmlinuz'));
  for (const path of [work, libraries, place]) rmSync(path, { recursive: true });
}

/** A kernel for arm64 with modules for it, in the order in which they are loaded, that give it the system heap. */
export async function arm64KernelWithHeap(progress) {
  const folder = await cached('arm64-heap-7.2', progress, (work) => build(work, progress));
  return { kernel: join(folder, 'vmlinuz'), modules: modules.map((name) => join(folder, `${name}.ko`)) };
}
