// What starts programs made for musl on Debian: Debian's own musl, 1.2.3 for x64 and 1.2.5 for arm64, and its libstdc++ and libgcc_s, which were made for
// glibc; libstdc++-on-musl.c has what they miss.

import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { npmPackage } from '../cached.mjs';
import { fetchZig } from '../prebuild.mjs';
import { root, run } from '../setup.mjs';
import { debianPackages } from './debian.mjs';

const machines = {
  x64: { musl: 'bookworm', debian: 'amd64', cpu: 'x86_64', bun: 'x64', glibcLoader: 'ld-linux-x86-64.so.2' },
  arm64: {
    musl: 'trixie',
    debian: 'arm64',
    cpu: 'aarch64',
    bun: 'aarch64',
    glibcLoader: 'ld-linux-aarch64.so.1',
  },
};

/** The loader's path that is written in programs for musl. */
export const muslLoader = (arch) => `/lib/ld-musl-${machines[arch].cpu}.so.1`;

/**
 * Fills a folder with 'loader' and the libraries, which programs find by LD_LIBRARY_PATH. Returns the name of the one for
 * LD_PRELOAD.
 */
export async function muslLibraries(arch, folder, progress) {
  const { musl, debian, cpu, glibcLoader } = machines[arch];
  const unpacked = async (suite, ...names) =>
    join(await debianPackages({ suite, arch: debian, names }, progress), 'usr/lib');
  const packages = await unpacked('trixie', 'libstdc\\+\\+6', 'libgcc-s1');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  copyFileSync(join(await unpacked(musl, 'musl'), `${cpu}-linux-musl/libc.so`), join(folder, 'loader'));
  for (const name of ['libstdc++.so.6', 'libgcc_s.so.1']) {
    copyFileSync(join(packages, `${cpu}-linux-gnu`, name), join(folder, name));
  }
  const source = join(root, 'scripts/foreign/libstdc++-on-musl.c');
  // libstdc++ may name glibc's loader, and finds this.
  const missing = join(folder, glibcLoader);
  const args = ['cc', '-target', `${cpu}-linux-musl`, '-shared', '-O2', '-s', '-o', missing, source];
  const { zig } = await fetchZig(progress);
  run(`compiling what libstdc++ misses on musl for ${arch}`, zig, args);
  return glibcLoader;
}

/** Bun, made for musl. It implements Node-API, but has no libuv. */
export async function muslBun(arch, progress) {
  const name = `@oven/bun-linux-${machines[arch].bun}-musl`;
  return join(await npmPackage(`${name}@1.4.5`, progress), 'node_modules', name, 'bin/bun');
}

/**
 * Puts Node, made for musl, into a folder, so that it runs the module there: pnpm for musl is Node 26 with a start that
 * loads dist/pnpm.mjs beside the program. There is no other in the npm registry.
 */
export async function muslNode(folder, module, progress) {
  const name = '@pnpm/linuxstatic-x64';
  const package_ = await npmPackage(`${name}@11.21.0`, progress);
  copyFileSync(join(package_, 'node_modules', name, 'pnpm'), join(folder, 'node'));
  mkdirSync(join(folder, 'dist'));
  writeFileSync(join(folder, 'dist/pnpm.mjs'), `import(${JSON.stringify(module)});\n`);
  return join(folder, 'node');
}
