import {
  chmodSync,
  closeSync,
  cpSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { aptFolder, readAptSources } from './apt-sources.js';
import { ARCHITECTURES, type Arch, archOfRelease } from './arch.js';
import { dependenciesOf, fetchPackages, type SuitePackages, Suites } from './debian-kernel.js';
import { VmError } from './errors.js';
import { ALL_SUITES } from './named-kernels.js';
import { type Finished, findProgram, run } from './process.js';
import { keepTelling } from './progress.js';

interface Steps {
  progress: (message: string) => void;
  signal?: AbortSignal | undefined;
}

/** What modules are built from. */
export interface ModuleSources {
  /** A folder with a `Kbuild` file, and with what is not the kernel's own. */
  own: string;
  /** Patterns of the files that are taken out of the kernel's source, and lie in the folder as they do there. */
  kernel: readonly string[];
}

/** A folder in which modules for one kernel can be compiled. */
export interface BuildTree {
  folder: string;
  /** Compiles what these words of make's command line ask for. */
  make: (words: readonly string[]) => Promise<Finished>;
}

/** Whether `release` is one of those that Debian has packages with headers of, as far as its form tells. */
export function isDebianRelease(release: string): boolean {
  return /^\d+\.\d+[0-9.+~a-z]*(-\d+)?-(amd64|arm64(-16k)?)$/.test(release);
}

/** Fetches what Debian has to build modules for a kernel with, and lays it out in `work`. Call it under a lock. */
export async function makeBuildTree(
  release: string,
  sources: ModuleSources,
  work: string,
  steps: Steps,
): Promise<BuildTree> {
  const arch = archOfRelease(release) ?? 'x64';
  const prefix = arch === 'x64' ? '' : `${ARCHITECTURES[arch].gnu}-`;
  const programs = findPrograms([`${prefix}gcc`, `${prefix}ld`, 'make', 'tar', 'xz'], prefix);
  const root = join(work, 'root');
  const folder = join(work, 'modules');
  for (const path of [root, folder]) mkdirSync(path);
  // The programs that make runs are this machine's.
  const architectures = (['x64', arch] as const).map((one) => ARCHITECTURES[one].debian);
  const suites = new Suites(work, readAptSources(await aptFolder()), steps, [...new Set(architectures)]);
  const { suite, packages, headers } = await findHeaders(release, suites);
  const source = sourcePackage(release, headers, packages, steps);
  await fetchPackages([...headers.names, source.word], root, packages.apt, steps);

  const kbuild = join(root, 'usr/lib', headers.kbuild.name);
  if (await lacksLibraries(kbuild)) {
    const libraries = join(work, 'libraries');
    mkdirSync(libraries);
    await provideLibraries(kbuild, libraries, { suites, suite, names: headers.kbuild.needs }, steps);
  }
  const headersFolder = join(root, 'usr/src', `linux-headers-${release}`);
  relocate(headersFolder, root);
  const archive = join(root, 'usr/src', `${source.name}.tar.xz`);
  await takeSources(archive, sources, folder, steps);
  const words = [
    '-C',
    headersFolder,
    `M=${folder}`,
    `-j${availableParallelism()}`,
    ...makeWords(arch, prefix),
  ];
  return {
    folder,
    make: (more) =>
      run(programs.make as string, [...words, ...more, 'modules'], {
        signal: steps.signal,
        env: { MAKEFLAGS: '' },
      }),
  };
}

/** What the kernel's own compiler, of another version of Debian, knows and others may not; and what nobody reads here. */
function makeWords(arch: Arch, prefix: string): string[] {
  return [
    ...(arch === 'x64' ? [] : [`ARCH=${arch}`, `CROSS_COMPILE=${prefix}`]),
    `CC=${prefix}gcc`,
    'CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=', // gcc 14 and later
    'CONFIG_DEBUG_INFO=',
    'CONFIG_DEBUG_INFO_BTF_MODULES=', // needs pahole
  ];
}

/** `prefix` is that of a compiler for another processor. */
function findPrograms(names: readonly string[], prefix: string): Record<string, string> {
  const found = names.map((name) => [name, findProgram(name)] as const);
  const missing = found.filter(([, path]) => path === undefined).map(([name]) => name);
  if (missing.length === 0) return Object.fromEntries(found) as Record<string, string>;
  throw new VmError(
    'ERR_DMABUF_VM_TOOL',
    `kernel modules are built with ${missing.join(' and ')}, which this machine does not have`,
    { hint: `Run 'sudo apt-get install gcc${prefix && `-${prefix.slice(0, -1)}`} make xz-utils'` },
  );
}

// ---------- packages

interface Headers {
  names: string[];
  /** The version of the packages. */
  version: string;
  /** The package of the programs that make runs. */
  kbuild: { name: string; needs: string[] };
}

/** The suite that has the kernel's headers. */
async function findHeaders(
  release: string,
  suites: Suites,
): Promise<{ suite: string; packages: SuitePackages; headers: Headers }> {
  for (const suite of ALL_SUITES) {
    const packages = await suites.packages(suite);
    const headers = packages && headersIn(packages.list, release);
    if (packages !== undefined && headers !== undefined) return { suite, packages, headers };
  }
  throw new VmError(
    'ERR_DMABUF_VM_BUILD',
    [
      `modules for kernel ${release} are built with the package linux-headers-${release}, which no suite has`,
      ...suites.unread,
    ].join('; '),
  );
}

function headersIn(list: string, release: string): Headers | undefined {
  const own = stanzaOf(list, `linux-headers-${release}`);
  if (own === undefined) return undefined;
  const needs = dependenciesOf(own);
  const common = needs.find((name) => /^linux-headers-.*-common$/.test(name));
  const kbuild = needs.find((name) => name.startsWith('linux-kbuild-'));
  const kbuildStanza = kbuild && stanzaOf(list, kbuild);
  if (common === undefined || stanzaOf(list, common) === undefined || !kbuild || !kbuildStanza)
    return undefined;
  return {
    names: [`linux-headers-${release}`, common, kbuild],
    version: versionOf(own),
    kbuild: { name: kbuild, needs: dependenciesOf(kbuildStanza) },
  };
}

function stanzaOf(list: string, name: string): string | undefined {
  return list.split('\n\n').find((stanza) => stanza.startsWith(`Package: ${name}\n`));
}

const versionOf = (stanza: string): string => /^Version: (.*)$/m.exec(stanza)?.[1] ?? '';

/** The source of that version, or of another version of the series: suites keep one. */
function sourcePackage(
  release: string,
  { version }: Headers,
  { list }: SuitePackages,
  { progress }: Steps,
): { name: string; word: string } {
  const name = `linux-source-${/^\d+\.\d+/.exec(release)?.[0]}`;
  const offered = list
    .split('\n\n')
    .filter((stanza) => stanza.startsWith(`Package: ${name}\n`))
    .map(versionOf);
  const [other] = offered;
  if (other === undefined) {
    throw new VmError(
      'ERR_DMABUF_VM_BUILD',
      `modules for kernel ${release} are built from the package ${name}, which the suite with its headers lacks`,
    );
  }
  const chosen = offered.find((one) => one === version) ?? other;
  if (chosen !== version) progress(`taking the modules' source from ${name} ${chosen}, not ${version}`);
  return { name, word: `${name}=${chosen}` };
}

// ---------- programs that were made for another release of Debian

/** The programs in a folder. */
function programsIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter(isProgram);
}

function isProgram(path: string): boolean {
  const head = Buffer.alloc(4);
  const file = openSync(path, 'r');
  try {
    readSync(file, head, 0, head.length, 0);
  } finally {
    closeSync(file);
  }
  return head.toString('latin1') === '\x7fELF';
}

/** Whether a program needs libraries, or versions of them, that this machine has not. */
async function lacksLibrary(program: string): Promise<boolean> {
  const { stdout, stderr } = await run('ldd', [program]);
  return `${stdout}${stderr}`.includes('not found');
}

async function lacksLibraries(folder: string): Promise<boolean> {
  for (const program of programsIn(folder)) if (await lacksLibrary(program)) return true;
  return false;
}

/** Has the programs of a folder run with the libraries of the release that they were made for. */
async function provideLibraries(
  folder: string,
  libraries: string,
  { suites, suite, names }: { suites: Suites; suite: string; names: readonly string[] },
  steps: Steps,
): Promise<void> {
  const release = suite.replace(/-(backports|security)$/, '');
  const packages = await suites.packages(release);
  if (packages === undefined) throw new VmError('ERR_DMABUF_VM_BUILD', suites.unread.join('; '));
  // pahole is a program, for what is left out here; libelf needs libzstd1.
  const wanted = [...names.filter((name) => name !== 'pahole'), 'libzstd1'];
  await fetchPackages(wanted, libraries, packages.apt, steps);
  // Before Debian 13 the C library lies in /lib, which is a link on machines and a folder here.
  const folders = ['usr/lib', 'lib'].map((path) => join(libraries, path, 'x86_64-linux-gnu'));
  const loader = join(libraries, 'loader');
  writeFileSync(
    loader,
    `#!/bin/sh\nexec "$(ls ${folders.map((path) => `${path}/ld-linux-x86-64.so.2`).join(' ')} 2>/dev/null | head -n 1)" \\\n` +
      `  --library-path ${folders.join(':')} "$@"\n`,
  );
  chmodSync(loader, 0o755);
  for (const program of programsIn(folder)) {
    if (!(await lacksLibrary(program))) continue;
    renameSync(program, `${program}.program`);
    writeFileSync(program, `#!/bin/sh\nexec ${loader} ${program}.program "$@"\n`);
    chmodSync(program, 0o755);
  }
}

// ---------- files

/** Has the headers find each other where they were unpacked. */
function relocate(headers: string, root: string): void {
  const makefile = join(headers, 'Makefile');
  const text = readFileSync(makefile, 'utf8');
  writeFileSync(makefile, text.replaceAll('/usr/src/', `${root}/usr/src/`));
}

async function takeSources(
  archive: string,
  { own, kernel }: ModuleSources,
  folder: string,
  { progress, signal }: Steps,
): Promise<void> {
  const stop = keepTelling(progress, "taking the modules' sources out of the kernel's");
  const args = ['-I', 'xz -T0', '-xf', archive, '-C', folder, '--strip-components=1', '--wildcards'];
  const result = await run('tar', [...args, ...kernel.map((path) => `*/${path}`)], { signal }).finally(stop);
  // tar reports a pattern that matches nothing: a module that this kernel lacks cannot be built, but others can.
  if (result.status !== 0) progress(`some sources are not in ${archive}: ${result.stderr.trim()}`);
  cpSync(own, folder, { recursive: true });
}
