// node scripts/binaries.mjs: whether the binaries in prebuilds are what they have to be, as readelf of binutils sees them.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { root } from './setup.mjs';

/** The newest glibc that a binary may ask for: the oldest that Node 20 runs on. */
const newestGlibc = '2.28';

const machines = { x64: 'Advanced Micro Devices X86-64', arm64: 'AArch64' };

/** The parts of the C library, which are there wherever it is. musl is one file. */
const libraries = {
  glibc: /^(lib(c|m|dl|pthread)\.so\.\d|ld-linux-[\w-]+\.so\.\d)$/,
  musl: /^libc\.so$/,
};

/** What musl 1.2.3, that of Debian 12, has not. */
const newerThanMusl = /^(statx|preadv2|pwritev2)$/;

/** What Node looks up. */
const exported = /^(napi_register_module_v1|node_api_module_get_api_version_v1)$/;

/** What comes from Node itself. */
const fromNode = /^(napi|node_api|uv)_/;

function readelf(options, path) {
  const { status, stdout, stderr, error } = spawnSync('readelf', ['--wide', ...options, path], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
  });
  if (error) throw new Error('readelf could not be started: apt-get install binutils', { cause: error });
  if (status !== 0 || stderr.includes('Error')) throw new Error(`${path}: ${stderr.trim()}`);
  return stdout;
}

const compare = (a, b) => a.localeCompare(b, 'en', { numeric: true });

/** Throws unless the binary fits every machine of the architecture ('x64', 'arm64') and C library ('glibc', 'musl'). */
export function checkBinary(path, arch, libc) {
  const problems = [];
  const refuse = (what, names) => {
    if (names.length === 0) return;
    const more = names.length > 3 ? ` and ${names.length - 3} more` : '';
    problems.push(`${what} ${names.slice(0, 3).join(', ')}${more}`);
  };

  const machine = /Machine: +(.*)/.exec(readelf(['--file-header'], path))?.[1];
  if (machine !== machines[arch]) problems.push(`is made for ${machine}, not for ${machines[arch]}`);

  const needed = [...readelf(['--dynamic'], path).matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(([, name]) => name);
  if (!needed.some((name) => /^libc\./.test(name))) problems.push('does not name the C library');
  refuse(
    `is to need ${libc} alone, and needs`,
    needed.filter((name) => !libraries[libc].test(name)),
  );

  const versions = [...readelf(['--version-info'], path).matchAll(/Name: (\w+?)_([\d.]+)/g)];
  const isOld = ([, set, version]) =>
    libc === 'glibc' && set === 'GLIBC' && compare(version, newestGlibc) <= 0;
  const tooNew = versions.filter((version) => !isOld(version)).map(([, set, version]) => `${set}_${version}`);
  refuse('needs the versions', tooNew.sort(compare).reverse());

  if (/ \.symtab /.test(readelf(['--section-headers'], path))) problems.push('is not stripped');

  const symbols = readelf(['--dyn-syms'], path)
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([number, , , , , , , name]) => /^\d+:$/.test(number) && name !== undefined)
    .map(([, , , , bind, , section, name]) => ({ bind, section, name }));
  const defined = symbols.filter(({ section }) => section !== 'UND').map(({ name }) => name);
  if (!defined.includes('napi_register_module_v1')) problems.push('does not export napi_register_module_v1');
  refuse(
    'exports',
    defined.filter((name) => !exported.test(name)),
  );
  if (libc === 'glibc') {
    // Its symbols have versions, all of them, so that one without has to be Node's.
    const isKnown = ({ bind, section, name }) =>
      section !== 'UND' || bind === 'WEAK' || name.includes('@') || fromNode.test(name);
    refuse(
      'needs the symbols',
      symbols.filter((symbol) => !isKnown(symbol)).map(({ name }) => name),
    );
  }
  if (libc === 'musl') {
    refuse(
      'needs of a newer musl',
      symbols.map(({ name }) => name).filter((name) => newerThanMusl.test(name)),
    );
  }
  if (problems.length > 0) throw new Error(`${path} ${problems.join('; ')}`);
}

/** The binaries that travel in the package. */
export const binaries = ['x64', 'arm64'].flatMap((arch) =>
  ['glibc', 'musl'].map((libc) => ({ arch, libc, file: `prebuilds/linux-${arch}/dmabuf.${libc}.node` })),
);

/** All of them below a folder, such as that of an installed package. */
export function checkBinaries(folder = root) {
  for (const { arch, libc, file } of binaries) {
    const path = join(folder, file);
    if (!existsSync(path)) throw new Error(`${path} is not there: npm run prebuild makes it`);
    checkBinary(path, arch, libc);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    checkBinaries();
    for (const { file } of binaries) console.log(`${file} is right`);
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
