import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type PrivateApt, privateApt } from './apt.js';
import { formatSource, mirrorsFor, readAptSources } from './apt-sources.js';
import { VmError } from './errors.js';
import { run } from './process.js';
import { keepTelling } from './progress.js';

interface Series {
  /** Debian's suite that has it. */
  suite: string;
  /** Regular expression of the versions that belong to it, as in the packages' names. */
  versions: string;
  /** The packages a version consists of. */
  packages: (version: string) => string[];
}

/** The kernels that can be asked for by name. */
export const SERIES: Readonly<Record<string, Series>> = {
  '6.12': {
    suite: 'bookworm-security',
    versions: '6\\.12\\.[0-9]+\\+deb12-amd64',
    packages: (version) => [`linux-image-${version}-unsigned`],
  },
  '7.2': {
    suite: 'trixie-backports',
    versions: '7\\.2\\.[0-9]+\\+deb13-amd64',
    packages: (version) => ['binary', 'modules', 'base'].map((part) => `linux-${part}-${version}`),
  },
};

interface Steps {
  progress: (message: string) => void;
  signal?: AbortSignal | undefined;
}

/** Fetches the newest kernel of a series into `folder/<version>` and returns that path. Call it under a lock. */
export async function downloadKernel(series: string, folder: string, steps: Steps): Promise<string> {
  const { suite, versions, packages } = SERIES[series] as Series;
  for (const name of readdirSync(folder)) {
    // left by a process that was killed; whoever holds the lock is the only one at work here
    if (name.startsWith('.fetch-'))
      rmSync(join(folder, name), { recursive: true, force: true, maxRetries: 10 });
  }
  const work = mkdtempSync(join(folder, '.fetch-'));
  try {
    const { apt, version } = await findVersion(series, work, steps);
    const names = packages(version);
    const stop = keepTelling(steps.progress, `downloading ${names.join(', ')}`, apt.downloads);
    const download = await apt.run('apt-get', ['download', ...names]).finally(stop);
    if (download.status !== 0) throw failed(`downloading ${names.join(', ')} failed`, download.stderr);
    const stopUnpacking = keepTelling(steps.progress, `unpacking kernel ${version}`, join(work, 'unpacked'));
    const done = await unpack(apt.downloads, work, version, steps).finally(stopUnpacking);
    const target = join(folder, version);
    rmSync(target, { recursive: true, force: true });
    renameSync(done, target);
    steps.progress(`kernel ${version} is ready in ${target}`);
    return target;
  } finally {
    rmSync(work, { recursive: true, force: true, maxRetries: 10 });
  }

  async function findVersion(
    name: string,
    workFolder: string,
    { progress, signal }: Steps,
  ): Promise<{ apt: PrivateApt; version: string }> {
    const mirrors = mirrorsFor(suite, readAptSources('/etc/apt'));
    if (mirrors.length === 0)
      throw failed(`this machine's apt sources name no Debian mirror to read ${suite} from`);
    let reason = '';
    for (const [attempt, mirror] of mirrors.entries()) {
      const apt = privateApt(join(workFolder, `apt-${attempt}`), { sources: formatSource(mirror), signal });
      const stop = keepTelling(progress, `reading the package list of ${suite}`);
      const update = await apt.run('apt-get', ['update', '--error-on=any']).finally(stop);
      reason = update.stderr.trim();
      if (update.status !== 0) continue;
      const found = await availableVersions(apt);
      const version = newestFirst(found)[0];
      if (version !== undefined) return { apt, version };
      reason = `the suite has no kernel ${name} at present`;
    }
    throw failed(`no kernel ${name} can be fetched from ${suite}`, reason);
  }

  async function availableVersions(apt: PrivateApt): Promise<string[]> {
    const search = await apt.run('apt-cache', ['search', '--names-only', versions]);
    const known = new Set(
      search.stdout
        .toString()
        .split('\n')
        .map((line) => line.split(' ', 1)[0] as string),
    );
    const candidates = [...known].flatMap(
      (name) => new RegExp(`-(${versions})(?:-|$)`).exec(name)?.[1] ?? [],
    );
    // While a new version is being published, some of its packages come later than others.
    return candidates.filter((version) => packages(version).every((name) => known.has(name)));
  }
}

/** Sorts versions such as `6.12.117+deb12-amd64`, the newest first. */
export function newestFirst(versions: readonly string[]): string[] {
  return [...versions].sort((a, b) => b.localeCompare(a, 'en', { numeric: true }));
}

/** Unpacks the packages and keeps the kernel image, its configuration and its modules. */
async function unpack(downloads: string, work: string, version: string, { signal }: Steps): Promise<string> {
  const unpacked = join(work, 'unpacked');
  const done = join(work, 'done');
  for (const folder of [unpacked, done]) mkdirSync(folder);
  for (const name of readdirSync(downloads).filter((file) => file.endsWith('.deb'))) {
    const result = await run('dpkg', ['-x', join(downloads, name), unpacked], { signal });
    if (result.status !== 0) throw failed(`unpacking ${basename(name)} failed`, result.stderr);
  }
  const take = (names: readonly string[], as: string): void => {
    const from = names.map((name) => join(unpacked, name)).find((path) => existsSync(path));
    if (from === undefined) throw failed(`the packages of ${version} have no ${names.join(' or ')}`);
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

function failed(what: string, reason = ''): VmError {
  const said = reason.trim() === '' ? '' : `: ${reason.trim()}`;
  return new VmError(
    'ERR_DMABUF_VM_KERNEL',
    `${what}${said}. Try again when the network is there, or bring a kernel: --kernel PATH, or --kernel host`,
  );
}
