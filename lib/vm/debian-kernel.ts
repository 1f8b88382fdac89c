import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type PrivateApt, privateApt } from './apt.js';
import { type AptSource, formatSource, mirrorsFor } from './apt-sources.js';
import { type Arch, archOfRelease } from './arch.js';
import { cacheError } from './cache-folder.js';
import { VmError } from './errors.js';
import { run } from './process.js';
import { keepTelling } from './progress.js';

/** A kernel that a suite offers with all of its packages. */
export interface DebianKernel {
  /** As in the packages' names and as `uname -r` prints it, e.g. `7.3.4+deb13-amd64`. */
  version: string;
  packages: readonly string[];
}

/** A kernel that a suite offers, and what fetches it. */
export interface Offer {
  version: string;
  /** Fetches it into `folder/<version>` and returns that path. Call it under a lock. */
  fetch: (places: Places) => Promise<string>;
}

export interface Places {
  /** For what is needed meanwhile. */
  work: string;
  /** For kernels. */
  folder: string;
}

/** A suite's list of packages (`apt-cache dumpavail`), and apt that reads this suite alone. */
export interface SuitePackages {
  list: string;
  apt: PrivateApt;
}

interface Steps {
  progress: (message: string) => void;
  signal?: AbortSignal | undefined;
}

/**
 * Debian's suites, as this machine's own apt can reach them, with the packages of some architectures, by default this
 * machine's. Call it under a lock, in a folder of its own.
 */
export class Suites {
  readonly #work: string;
  readonly #steps: Steps;
  readonly #architectures: readonly string[];
  readonly #sources: readonly AptSource[];
  /** Mirrors that did not answer: each suite would wait for them again. */
  readonly #silent = new Set<string>();
  #count = 0;
  /** The suites that could not be read, by the reason. */
  readonly #unread = new Map<string, string[]>();

  constructor(
    work: string,
    sources: readonly AptSource[],
    steps: Steps,
    architectures: readonly string[] = [],
  ) {
    this.#architectures = architectures;
    this.#work = work;
    this.#sources = sources;
    this.#steps = steps;
  }

  /** The kernels for a processor that a suite offers complete; none where it cannot be read. */
  async read(suite: string, arch: Arch): Promise<Offer[]> {
    const packages = await this.packages(suite);
    if (packages === undefined) return [];
    const { list, apt } = packages;
    return completeKernels(list, arch).map((kernel) => ({
      version: kernel.version,
      fetch: (places) => downloadKernel(kernel, { apt, ...places }, this.#steps),
    }));
  }

  /** All that a suite offers; undefined where it cannot be read. */
  async packages(suite: string): Promise<SuitePackages | undefined> {
    const mirrors = mirrorsFor(suite, this.#sources);
    if (mirrors.length === 0)
      this.#noteUnread(suite, "this machine's apt sources name no Debian mirror for it");
    for (const mirror of mirrors) {
      const packages = this.#silent.has(mirror.uri) ? undefined : await this.#readFrom(mirror, suite);
      if (packages !== undefined) return packages;
    }
    return undefined;
  }

  async #readFrom(mirror: AptSource, suite: string): Promise<SuitePackages | undefined> {
    const { progress, signal } = this.#steps;
    const apt = privateApt(join(this.#work, `apt-${this.#count++}`), {
      sources: formatSource(mirror),
      architectures: this.#architectures,
      signal,
    });
    const stop = keepTelling(progress, `reading the package list of ${suite}`);
    try {
      const update = await apt.run('apt-get', ['update', '--error-on=any']);
      if (update.status !== 0) {
        if (SILENT.test(update.stderr)) this.#silent.add(mirror.uri);
        this.#noteUnread(suite, lastLine(update.stderr));
        return undefined;
      }
      const { stdout } = await apt.run('apt-cache', ['dumpavail']);
      return { list: stdout.toString(), apt };
    } finally {
      stop();
    }
  }

  #noteUnread(suite: string, reason: string): void {
    this.#steps.progress(`${suite} cannot be read: ${reason}`);
    // The same but for the suite's name.
    const kind = reason.replaceAll(suite, '…');
    this.#unread.set(kind, [...(this.#unread.get(kind) ?? []), suite]);
  }

  /** Which suites could not be read, and why. */
  get unread(): string[] {
    return [...this.#unread].map(([reason, suites]) => `${suites.join(', ')} cannot be read: ${reason}`);
  }
}

/** What apt says of a mirror that is not there, as opposed to one that has no such suite. */
const SILENT = /resolv|connect|timed? ?out|unreachable/i;

const KERNEL_PACKAGE =
  /^linux-(image|binary|modules|base)-(\d+\.\d+[0-9.+~a-z]*(?:-\d+)?-(?:amd64|arm64(?:-16k)?))(-unsigned)?$/;

/**
 * The kernels for a processor in a package list (`apt-cache dumpavail`) that have all of their packages: while a version is being published
 * some come later than others, and some stay when a series is dropped.
 */
export function completeKernels(list: string, arch: Arch): DebianKernel[] {
  const needs = new Map<string, string[]>();
  for (const stanza of list.split('\n\n')) {
    const name = /^Package: (linux-.*)$/m.exec(stanza)?.[1];
    if (name !== undefined && KERNEL_PACKAGE.test(name)) needs.set(name, dependenciesOf(stanza));
  }
  const kernels = new Map<string, readonly string[]>();
  for (const name of needs.keys()) {
    const [, part, version] = KERNEL_PACKAGE.exec(name) as unknown as [string, string, string];
    if (part !== 'image' || kernels.has(version) || archOfRelease(version) !== arch) continue;
    const packages = packagesOf(name, version, needs);
    if (packages !== undefined) kernels.set(version, packages);
  }
  return newestFirst([...kernels.keys()]).map((version) => ({
    version,
    packages: kernels.get(version) as readonly string[],
  }));
}

/** The names of the packages that a package's stanza says it needs, of alternatives the first. */
export function dependenciesOf(stanza: string): string[] {
  const depends = /^(?:Pre-)?Depends: (.*)$/m.exec(stanza)?.[1] ?? '';
  return depends.split(/, */).map((alternatives) => alternatives.split(' ', 1)[0] as string);
}

/** The package and those of the same version that it needs; `undefined` where one is missing, or it stands for another version. */
function packagesOf(name: string, version: string, needs: Map<string, string[]>): string[] | undefined {
  const found = new Set<string>();
  const waiting = [name];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const own = needs.get(next);
    if (own === undefined) return undefined;
    found.add(next);
    for (const needed of own) {
      const [, part, of] = KERNEL_PACKAGE.exec(needed) ?? [];
      if (part === undefined || found.has(needed)) continue;
      if (of !== version) return undefined;
      waiting.push(needed);
    }
  }
  return [...found];
}

async function downloadKernel(
  { version, packages }: DebianKernel,
  { apt, work, folder }: Places & { apt: PrivateApt },
  steps: Steps,
): Promise<string> {
  const unpacked = mkdtempSync(join(work, 'unpacked-'));
  await fetchPackages(packages, unpacked, apt, steps);
  const done = keepKernel(unpacked, mkdtempSync(join(work, 'done-')), version);
  const target = join(folder, version);
  rmSync(target, { recursive: true, force: true });
  renameSync(done, target);
  steps.progress(`kernel ${version} is ready in ${target}`);
  return target;
}

/** Downloads packages and unpacks them into a folder. */
export async function fetchPackages(
  packages: readonly string[],
  folder: string,
  apt: PrivateApt,
  { progress, signal }: Steps,
): Promise<void> {
  const what = `downloading ${packages.join(', ')}`;
  rmSync(apt.downloads, { recursive: true, force: true });
  mkdirSync(apt.downloads);
  const stop = keepTelling(progress, what, apt.downloads);
  const download = await apt.run('apt-get', ['download', ...packages]).finally(stop);
  if (download.status !== 0) throw failed(what, download.stderr);
  const archives = readdirSync(apt.downloads).filter((file) => file.endsWith('.deb'));
  const stopUnpacking = keepTelling(progress, `unpacking ${archives.length} packages`);
  try {
    for (const name of archives) {
      const result = await run('dpkg', ['-x', join(apt.downloads, name), folder], { signal });
      if (result.status !== 0) throw failed(`unpacking ${basename(name)}`, result.stderr);
    }
  } finally {
    stopUnpacking();
  }
}

/** Runs `work` with a folder in `folder` that is gone afterwards, as are those of processes that were killed. */
export async function withWorkFolder<T>(folder: string, work: (path: string) => Promise<T>): Promise<T> {
  const remove = (path: string): void => rmSync(path, { recursive: true, force: true, maxRetries: 10 });
  for (const name of readdirSync(folder)) {
    if (name.startsWith('.fetch-')) remove(join(folder, name));
  }
  const path = mkdtempSync(join(folder, '.fetch-'));
  try {
    return await work(path);
  } finally {
    remove(path);
  }
}

/** Sorts versions such as `6.12.117+deb12-amd64`, the newest first. */
export function newestFirst(versions: readonly string[]): string[] {
  return [...versions].sort((a, b) => b.localeCompare(a, 'en', { numeric: true }));
}

/** Moves the kernel image, its configuration and its modules out of what was unpacked. */
function keepKernel(unpacked: string, done: string, version: string): string {
  const take = (names: readonly string[], as: string): void => {
    const from = names.map((name) => join(unpacked, name)).find((path) => existsSync(path));
    if (from === undefined) throw kernelError(`the packages of ${version} have no ${names.join(' or ')}`);
    renameSync(from, join(done, as));
  };
  const usr = `usr/lib/modules/${version}`;
  take([`boot/vmlinuz-${version}`, `${usr}/vmlinuz`], 'vmlinuz');
  take([`boot/config-${version}`, `${usr}/config`], 'config');
  mkdirSync(join(done, 'modules'));
  const modules = existsSync(join(unpacked, usr)) ? usr : `lib/modules/${version}`;
  take([`${modules}/kernel`], 'modules/kernel');
  take([`${modules}/modules.builtin`], 'modules/modules.builtin');
  return done;
}

/** Another version needs as much room on the disk. */
function failed(what: string, stderr: string): VmError {
  const reason = `${what} failed: ${lastLine(stderr)}`;
  return /No space left|quota exceeded/i.test(stderr) ? cacheError(reason) : kernelError(reason);
}

function kernelError(message: string): VmError {
  return new VmError('ERR_DMABUF_VM_KERNEL', message);
}

/** The last thing that a program said, without the letter that apt puts before it. */
function lastLine(text: string): string {
  const lines = text
    .trim()
    .split('\n')
    .filter((line) => !line.startsWith('E: Some index files failed'));
  return (lines.at(-1) ?? '').replace(/^[EW]: (Failed to fetch \S+\s+)?/, '');
}
