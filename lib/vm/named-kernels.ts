import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { aptFolder, readAptSources } from './apt-sources.js';
import { ARCHITECTURES, type Arch } from './arch.js';
import { cacheFolder } from './cache-folder.js';
import { newestFirst, type Places, Suites, withWorkFolder } from './debian-kernel.js';
import { VmError } from './errors.js';
import { readImage } from './kernel-image.js';
import { withLock } from './lock.js';

interface Steps {
  progress: (message: string) => void;
  signal?: AbortSignal | undefined;
}

/** What kernels are for, and where those of the cache are. */
interface Kind {
  arch: Arch;
  folder: string;
}

/** What a name stands for. */
interface Meaning {
  /** Groups of suites: the first group that has a kernel decides. */
  suites: ReadonlyArray<readonly string[]>;
  /** Of versions, the newest first, those that will do, the best first. */
  choose: (versions: readonly string[]) => string[];
}

const all = (versions: readonly string[]): string[] => [...versions];
const oldestSeriesFirst = (versions: readonly string[]): string[] => {
  const series = [...new Set(versions.map(seriesOf))].reverse();
  return series.flatMap((one) => versions.filter((version) => seriesOf(version) === one));
};

// Debian's aliases move on with its releases. A mirror may not have them, or have them of another day (seen), and a machine
// may lack the keys of the next release: so the code names are looked at as well.
const MEANINGS: Readonly<Record<string, Meaning>> = {
  newest: {
    suites: [
      ['stable-backports', 'trixie-backports'],
      ['testing'],
      ['stable-security', 'trixie-security'],
      ['stable'],
    ],
    choose: all,
  },
  stable: {
    suites: [['stable-security', 'trixie-security'], ['stable', 'trixie'], ['bookworm-security']],
    choose: all,
  },
  old: {
    suites: [
      ['oldstable-security', 'bookworm-security'],
      ['oldstable', 'bookworm'],
    ],
    choose: oldestSeriesFirst,
  },
};

/** Where any series may be, the likeliest and the quickest to read first. */
export const ALL_SUITES: readonly string[] = [
  ...['trixie-backports', 'trixie-security', 'bookworm-security', 'stable-backports', 'stable-security'],
  ...['oldstable-security', 'oldstable-backports', 'stable', 'testing', 'oldstable', 'unstable'],
];

/** The names of Debian's kernels that last while versions come and go. */
export const KERNEL_NAMES: readonly string[] = Object.keys(MEANINGS);

/** What arm64 kernels with pages of 16 KiB have at the end of their names. */
const LARGE_PAGES = '-16k';

/** Whether `name` stands for a kernel of Debian's: a name, a series, or a version. */
export function isDebianName(name: string): boolean {
  return isLasting(name) || /^\d+\.\d+(\.\d+)?([-+][\w.+-]*)?$/.test(name);
}

/** Whether it is one of the names that last. */
function isLasting(name: string): boolean {
  return Object.hasOwn(MEANINGS, withoutPages(name));
}

function withoutPages(name: string): string {
  return name.endsWith(LARGE_PAGES) ? name.slice(0, -LARGE_PAGES.length) : name;
}

function meaningOf(name: string): Meaning {
  const known = withoutPages(name);
  const { suites, choose } = MEANINGS[known] ?? {
    suites: ALL_SUITES.map((suite) => [suite]),
    choose: (versions) => versions.filter((version) => isOf(known, version)),
  };
  const hasSuchPages = (version: string): boolean =>
    version.endsWith(LARGE_PAGES) === name.endsWith(LARGE_PAGES);
  return { suites, choose: (versions) => choose(versions.filter(hasSuchPages)) };
}

/** Whether a version is the one, or of the series: `7.2` has `7.2.12+deb13-amd64` and not `7.20.1+deb13-amd64`. */
function isOf(name: string, version: string): boolean {
  return version.startsWith(name) && !/^\d/.test(version.slice(name.length));
}

function seriesOf(version: string): string {
  return /^\d+\.\d+/.exec(version)?.[0] ?? version;
}

/** How long what a name stood for is taken for true, in milliseconds. */
const LOOK_AGAIN_AFTER = 24 * 3600 * 1000;

/**
 * The folder of the kernel for `arch` that `name` means. A series that is in the cache is taken from there. What `newest`, `stable` and
 * `old` mean is asked of Debian's suites once a day; where they cannot be read, or have nothing complete, the cache will do.
 */
export async function provideKernel(name: string, arch: Arch, steps: Steps): Promise<string> {
  const folder = join(cacheFolder(), arch === 'x64' ? 'kernels' : `kernels-${arch}`);
  const find = (): string | undefined => knownKernel(name, folder);
  const version =
    find() ??
    (await withLock(join(folder, '.lock'), { ...steps, what: 'fetching a kernel' }, async () => {
      // Another process may have fetched it while this one waited.
      return find() ?? (await withWorkFolder(folder, (work) => lookUp(name, { work, folder, arch }, steps)));
    }));
  return join(folder, version);
}

/** What needs no look at the suites. */
function knownKernel(name: string, folder: string): string | undefined {
  const cached = cachedVersions(folder);
  if (!isLasting(name)) return meaningOf(name).choose(cached)[0];
  const { version, asked } = readMeanings(folder)[name] ?? { version: '', asked: 0 };
  const age = Date.now() - asked;
  return cached.includes(version) && age >= 0 && age < LOOK_AGAIN_AFTER ? version : undefined;
}

/** Fetches the best kernel that the suites offer; else takes the best of the cache. */
async function lookUp(name: string, places: Places & Kind, steps: Steps): Promise<string> {
  const { suites, choose } = meaningOf(name);
  const { arch } = places;
  const sources = readAptSources(await aptFolder());
  const debian = new Suites(places.work, sources, steps, [ARCHITECTURES[arch].debian]);
  const seen = new Set<string>();
  for (const group of suites) {
    const offers = new Map<string, () => Promise<string>>();
    for (const suite of group) {
      for (const { version, fetch } of await debian.read(suite, arch))
        offers.set(version, () => fetch(places));
    }
    for (const version of offers.keys()) seen.add(seriesOf(version));
    const wanted = choose(newestFirst([...offers.keys()]));
    if (wanted.length === 0) steps.progress(`${group.join(' and ')}: no ${nameOf(name)} that is complete`);
    const found = await firstThatComes(wanted, offers, places.folder, steps);
    if (found === undefined) continue;
    remember(name, found, places.folder);
    return found;
  }
  return fromCache(name, places, { debian, seen, steps });
}

/** The first of the versions that is in the cache or can be fetched. */
async function firstThatComes(
  wanted: readonly string[],
  offers: ReadonlyMap<string, () => Promise<string>>,
  folder: string,
  steps: Steps,
): Promise<string | undefined> {
  for (const version of wanted.slice(0, 3)) {
    try {
      if (!cachedVersions(folder).includes(version)) await offers.get(version)?.();
      return version;
    } catch (error) {
      if (!(error instanceof VmError) || error.code !== 'ERR_DMABUF_VM_KERNEL' || steps.signal?.aborted)
        throw error;
      steps.progress(error.message.replace(/^ERR_\w+: /, ''));
    }
  }
  return undefined;
}

/** The next best: what the name stood for last, or what is nearest to it. */
function fromCache(
  name: string,
  { folder, arch }: Kind,
  { debian, seen, steps }: { debian: Suites; seen: ReadonlySet<string>; steps: Steps },
): string {
  const cached = cachedVersions(folder);
  const last = readMeanings(folder)[name]?.version;
  const alike = cached.filter((version) => version.endsWith(LARGE_PAGES) === name.endsWith(LARGE_PAGES));
  const nearest = withoutPages(name) === 'newest' ? alike : oldestSeriesFirst(alike);
  const version = isLasting(name) ? (cached.find((one) => one === last) ?? nearest[0]) : undefined;
  if (version !== undefined) {
    steps.progress(`${name}: taking kernel ${version} from the cache`);
    return version;
  }
  const offered = [...seen].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  const said = [
    `no ${nameOf(name)} is available${arch === 'x64' ? '' : ` for ${arch}`}`,
    ...debian.unread,
    `the suites that can be read offer ${offered.join(', ') || 'none'}`,
    `the cache has ${cached.join(', ') || 'none'}`,
  ];
  throw new VmError('ERR_DMABUF_VM_KERNEL', said.join('; '), {
    hint: 'Try again when the network is there, or bring a kernel: --kernel PATH, or --kernel host',
  });
}

const nameOf = (name: string): string => (isLasting(name) ? `kernel for '${name}'` : `kernel ${name}`);

/** The kernels in the cache that are whole, the newest first. */
function cachedVersions(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return newestFirst(readdirSync(folder).filter((name) => /^\d/.test(name) && isWhole(join(folder, name))));
}

/** What is not, since a disk was full or a file was lost, is fetched again. */
function isWhole(kernel: string): boolean {
  try {
    readImage(join(kernel, 'vmlinuz'));
    return existsSync(join(kernel, 'modules'));
  } catch {
    return false;
  }
}

// ---------- what names stood for

type Meanings = Record<string, { version: string; asked: number } | undefined>;

function readMeanings(folder: string): Meanings {
  try {
    return JSON.parse(readFileSync(join(folder, 'names.json'), 'utf8')) as Meanings;
  } catch {
    return {}; // Nobody has asked yet, or what was written is no use.
  }
}

function remember(name: string, version: string, folder: string): void {
  if (!isLasting(name)) return;
  const unfinished = join(folder, '.names.json');
  const meanings: Meanings = { ...readMeanings(folder), [name]: { version, asked: Date.now() } };
  writeFileSync(unfinished, `${JSON.stringify(meanings, undefined, 2)}\n`);
  renameSync(unfinished, join(folder, 'names.json'));
}
