import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import type { PrivateApt } from './apt.js';
import { aptFolder, readAptSources } from './apt-sources.js';
import { ARCHITECTURES, type Arch } from './arch.js';
import { Suites } from './debian-kernel.js';
import { VmError } from './errors.js';
import { cached, nodeBinary } from './npm-package.js';
import { run } from './process.js';
import { keepTelling } from './progress.js';

interface Steps {
  progress: (message: string) => void;
  signal?: AbortSignal | undefined;
}

/** What lets a guest whose processor cannot run this machine's programs run some. */
export interface Foreign {
  /** A folder with `usr` in it, which lies over this machine's files. */
  programs: string;
  /** Node.js, of the major version of this one. */
  node: string;
}

/** The programs; what they need comes with them. */
const PACKAGES = [
  ...[
    'bash',
    'coreutils',
    'dash',
    'debianutils',
    'diffutils',
    'findutils',
    'grep',
    'gzip',
    'hostname',
    'mawk',
    'sed',
    'tar',
  ],
  ...['bsdutils', 'iproute2', 'kmod', 'mount', 'procps', 'util-linux', 'xz-utils'],
  // What Node.js needs.
  ...['libatomic1', 'libstdc++6'],
];

/** Where they are taken from: the first that can be read. */
const SUITES = ['trixie', 'stable', 'bookworm'];

/** Provides programs for a guest with another processor than this machine's. */
export async function provideForeign({ arch, ...steps }: Steps & { arch: Arch }): Promise<Foreign> {
  const programs = await providePrograms(arch, steps);
  const [major = ''] = process.versions.node.split('.');
  return { programs, node: await nodeBinary(major, steps, arch) };
}

function providePrograms(arch: Arch, steps: Steps): Promise<string> {
  const key = createHash('sha256')
    .update(JSON.stringify([PACKAGES, SUITES]))
    .digest('hex')
    .slice(0, 12);
  return cached(`programs/${arch}-${key}`, steps, async (folder) => {
    const work = join(folder, 'work');
    mkdirSync(work);
    const { debian } = ARCHITECTURES[arch];
    const suites = new Suites(work, readAptSources(await aptFolder()), steps, [debian]);
    const apt = await firstThatCanBeRead(suites);
    const unpacked = join(work, 'unpacked');
    mkdirSync(unpacked);
    await fetchWithDependencies(PACKAGES, unpacked, apt, steps);
    keepPrograms(unpacked, folder);
    rmSync(work, { recursive: true });
  });
}

async function firstThatCanBeRead(suites: Suites): Promise<PrivateApt> {
  for (const suite of SUITES) {
    const packages = await suites.packages(suite);
    if (packages !== undefined) return packages.apt;
  }
  throw new VmError(
    'ERR_DMABUF_VM_TOOL',
    `the guest's programs cannot be fetched: ${suites.unread.join('; ')}`,
  );
}

/** Unpacks packages and what they need into a folder; nothing is set up. */
async function fetchWithDependencies(
  packages: readonly string[],
  folder: string,
  apt: PrivateApt,
  { progress, signal }: Steps,
): Promise<void> {
  const stop = keepTelling(progress, "downloading the guest's programs", apt.archives);
  try {
    const words = ['install', '--download-only', '--no-install-recommends', '--yes', ...packages];
    const { status, stderr } = await apt.run('apt-get', words);
    if (status !== 0) throw failed('downloaded', stderr);
    for (const name of readdirSync(apt.archives)) {
      if (!name.endsWith('.deb')) continue;
      const result = await run('dpkg', ['-x', join(apt.archives, name), folder], { signal });
      if (result.status !== 0) throw failed('unpacked', result.stderr);
    }
  } finally {
    stop();
  }
}

function failed(what: string, stderr: string): VmError {
  return new VmError('ERR_DMABUF_VM_TOOL', `the guest's programs could not be ${what}: ${stderr.trim()}`);
}

/** Programs and libraries alone: settings and data are this machine's. */
function keepPrograms(unpacked: string, folder: string): void {
  mkdirSync(join(folder, 'usr'));
  for (const name of ['bin', 'sbin', 'lib']) {
    const place = join(folder, 'usr', name);
    renameSync(join(unpacked, 'usr', name), place);
    const old = join(unpacked, name);
    // A package may still have them where they were before /usr had everything.
    if (lstatSync(old, { throwIfNoEntry: false })?.isDirectory()) {
      cpSync(old, place, { recursive: true, verbatimSymlinks: true });
    }
    symlinkSync(`usr/${name}`, join(folder, name));
  }
  // What setting the packages up would do.
  for (const [name, target] of [
    ['awk', 'mawk'],
    ['which', 'which.debianutils'],
  ] as const) {
    const link = join(folder, 'usr/bin', name);
    if (!existsSync(link)) symlinkSync(target, link);
  }
}
