import { native, Register } from '../native.js';
import { foldersIn, namesIn, textOf } from '../text-file.js';

// How much memory is available for a buffer, according to the kernel's counters for the machine and for the control
// groups of this process.

/** What one counter leaves, in bytes. */
export interface MemoryLimit {
  available: number;
  /** The name of the counter, for messages. */
  counter: string;
}

/** A file's first line; undefined if it cannot be read. */
function lineOf(path: string): string | undefined {
  return textOf(path)?.split('\n', 1)[0];
}

/** The number in a file; infinity for 'max' and if the file cannot be read. */
function numberIn(path: string): number {
  const line = lineOf(path);
  return line === undefined || line === 'max' ? Number.POSITIVE_INFINITY : Number(line);
}

// ---- the machine

/**
 * Contiguous memory (CMA) of this kernel in bytes, fixed at boot. At first it is more than any free memory, so that the
 * first reading is a thorough one.
 */
let contiguous = Number.POSITIVE_INFINITY;

/**
 * How many bytes are available outside CMA, according to one cheap counter: half of the free memory, if that is more than
 * an eighth of all memory. Below that, the kernel's own reserves are a large part of it: MemAvailable was 0 when 49 MiB
 * of 1 GiB were free.
 */
export function surelyAvailable(): number {
  const free = native.freeMemory() - contiguous;
  return free > (native.registers[Register.totalMemory] as number) / 8 ? Math.floor(free / 2) : 0;
}

/** Whether so many bytes exceed the memory of this machine. */
export function exceedsAllMemory(size: number): boolean {
  native.freeMemory();
  const total = native.registers[Register.totalMemory] as number;
  return total > 0 && size > total;
}

/**
 * How much memory that cannot be moved the kernel can provide: MemAvailable minus its part in CMA, which is only for
 * memory that can be moved. That part consists of the free pages in CMA and of page cache. The kernel does not say where
 * page cache is: as much as possible is assumed to be there. (Seen with cma=1200M of 2 GiB and 500 MiB of page cache:
 * MemAvailable - CmaFree was 1119 MiB, and the kernel began to kill at 680.)
 */
export function machineLimit(): MemoryLimit {
  native.availableMemory();
  const { registers } = native;
  const available = registers[Register.availableMemory] as number;
  const fileCache = registers[Register.fileCache] as number;
  const cmaTotal = registers[Register.cmaTotal] as number;
  const cmaFree = registers[Register.cmaFree] as number;
  contiguous = cmaTotal;
  const kept = machineReserve();
  if (cmaTotal === 0) {
    return { available: Math.max(0, available - kept), counter: 'MemAvailable in /proc/meminfo' };
  }
  const inside = Math.min(fileCache, Math.max(0, unallocatedCma(cmaTotal) - cmaFree));
  // MemAvailable reserves for the kernel half of the page cache, or what its zones keep free, which is 5/4 of their
  // minimum.
  const low = numberIn('/proc/sys/vm/min_free_kbytes') * 1024 * 1.25;
  const counted = (pages: number): number => pages - Math.min(pages / 2, low);
  const outside = available - kept - cmaFree - counted(fileCache) + counted(fileCache - inside);
  return {
    available: Math.max(0, Math.floor(outside)),
    counter: 'MemAvailable minus CmaFree and the page cache in contiguous memory, in /proc/meminfo',
  };
}

/** The size of CMA in bytes; 0 if there is none. */
export function contiguousTotal(): number {
  native.availableMemory();
  return native.registers[Register.cmaTotal] as number;
}

/**
 * Reserved for the running programs: MemAvailable includes the page cache with their code, and the kernel kills processes
 * before it takes that. (Seen on 1 GiB: buffers of 4 MiB until MemAvailable was 2 MiB ended in the OOM killer.)
 */
function machineReserve(): number {
  native.freeMemory();
  const total = native.registers[Register.totalMemory] as number;
  return Math.floor(Math.min(total / 64, 32 * 2 ** 20));
}

/**
 * How many bytes of CMA no device uses: they are free, or have pages that can be moved away. All of CMA if sysfs does not
 * say.
 */
function unallocatedCma(total: number): number {
  const folder = '/sys/kernel/mm/cma';
  const areas = namesIn(folder)?.map((area) => textOf(`${folder}/${area}/available_pages`));
  if (areas === undefined || areas.includes(undefined)) return total;
  return areas.reduce((sum, pages) => sum + Number(pages) * native.pageSize, 0);
}

let accounting: boolean | undefined;

/** Whether the kernel charges heaps' memory to control groups (the parameter mem_accounting), fixed at boot. */
export function chargesHeaps(): boolean {
  accounting ??= lineOf('/sys/module/dma_heap/parameters/mem_accounting') === 'Y';
  return accounting;
}

// ---- control groups

/** A hierarchy of control groups that counts memory, and this process's position in it. */
interface Place {
  version: 1 | 2;
  /** The folders from the process's own group up to the highest visible one. */
  folders: string[];
}

/** mountinfo writes white space and backslashes in octal. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

/** Where the memory controller of either version is mounted, and which group is the mount's root. */
function memoryMounts(): { version: 1 | 2; root: string; point: string }[] {
  const mounts: { version: 1 | 2; root: string; point: string }[] = [];
  for (const line of (textOf('/proc/self/mountinfo') ?? '').split('\n')) {
    // id, parent, device, root, mount point, options, fields that vary, '-', type, source, options of the file system
    const [before = '', after = ''] = line.split(' - ', 2);
    const [, , , root = '', point = ''] = before.split(' ');
    const [type, , options = ''] = after.split(' ');
    const isFirst = type === 'cgroup' && options.split(',').includes('memory');
    if (!isFirst && type !== 'cgroup2') continue;
    mounts.push({ version: isFirst ? 1 : 2, root: unescapeOctal(root), point: unescapeOctal(point) });
  }
  return mounts;
}

/** This process's group in the hierarchy of either version, according to /proc/self/cgroup. */
function groupOf(version: 1 | 2): string | undefined {
  for (const line of (textOf('/proc/self/cgroup') ?? '').split('\n')) {
    const [, controllers = '', path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (path === undefined) continue;
    if (version === 2 ? controllers === '' : controllers.split(',').includes('memory')) return path;
  }
  return undefined;
}

/** Folders of one depth that are looked into, so that a machine with very many groups does not take long. */
const mostFolders = 2000;

/**
 * Of which group this process is, so many folders below a mount: a namespace of control groups (`unshare --cgroup`,
 * bubblewrap) hides the names of those above its own, and not their folders.
 */
function findGroup(point: string, depth: number): string | undefined {
  let level = [''];
  for (let left = depth; left > 0; left--) {
    level = level.flatMap((path) => (foldersIn(point + path) ?? []).map((name) => `${path}/${name}`));
    level.length = Math.min(level.length, mostFolders);
  }
  const own = String(process.pid);
  return level.find((path) => textOf(`${point}${path}/cgroup.procs`)?.split('\n').includes(own));
}

const found = new Map<string, string | undefined>();

/** The path of this process's group below a mount's point; empty for the mount's own group. */
function pathBelow({ root, point }: { root: string; point: string }, group: string): string {
  const [hidden] = /^(?:\/\.\.)+$/.exec(root) ?? [];
  if (hidden !== undefined && !group.startsWith('/..')) {
    const key = `${point} ${root} ${group}`;
    const depth = hidden.length / '/..'.length + group.split('/').filter((name) => name !== '').length;
    if (!found.has(key)) found.set(key, findGroup(point, depth));
    return found.get(key) ?? '';
  }
  // A container sees its own group as the mount's root, whatever the path says.
  const prefix = root === '/' ? '' : root;
  return group === root || !group.startsWith(`${prefix}/`) ? '' : group.slice(prefix.length);
}

function placeIn(mount: { version: 1 | 2; root: string; point: string }): Place | undefined {
  const group = groupOf(mount.version);
  if (group === undefined) return undefined;
  const below = pathBelow(mount, group);
  const folders: string[] = [];
  for (let path = below === '/' ? '' : below; ; path = path.slice(0, path.lastIndexOf('/'))) {
    folders.push(mount.point + path);
    if (path === '') return { version: mount.version, folders };
  }
}

/** A value of memory.stat in bytes. */
function statistic(stat: string, key: string): number {
  return Number(new RegExp(`^${key} (\\d+)$`, 'm').exec(stat)?.[1] ?? 0);
}

/**
 * How many bytes of a group and those below it the kernel takes back when they reach a limit, before it kills processes:
 * page cache except mapped files, which the running programs need again immediately.
 */
function reclaimable(folder: string, version: 1 | 2): number {
  const stat = textOf(`${folder}/memory.stat`) ?? '';
  const prefix = version === 2 ? '' : 'total_';
  const cache = statistic(stat, `${prefix}inactive_file`) + statistic(stat, `${prefix}active_file`);
  const mapped = statistic(stat, version === 2 ? 'file_mapped' : 'total_mapped_file');
  return Math.max(0, cache - mapped) + (version === 2 ? statistic(stat, 'slab_reclaimable') : 0);
}

/** What a group's processes still need for themselves: JavaScript's heap grows and shrinks. */
function keptFor(limit: number): number {
  return Math.min(limit / 16, 16 * 2 ** 20);
}

/** The limits of one group: the hard one, and in version 2 the one above which the kernel slows its processes down. */
function* limitsIn(folder: string, version: 1 | 2): Generator<MemoryLimit> {
  const [usageFile, ...limitFiles] =
    version === 2
      ? ['memory.current', 'memory.max', 'memory.high']
      : ['memory.usage_in_bytes', 'memory.limit_in_bytes'];
  for (const file of limitFiles) {
    const limit = numberIn(`${folder}/${file}`);
    // In version 1, the largest number of pages stands for no limit.
    if (limit >= 2 ** 60) continue;
    const usage = numberIn(`${folder}/${usageFile}`);
    if (!Number.isFinite(usage)) continue;
    const available = Math.max(0, limit - usage + reclaimable(folder, version) - Math.ceil(keptFor(limit)));
    yield { available, counter: `${file} of ${limit} bytes in ${folder}` };
  }
}

/**
 * How much memory the control groups of this process still allow: the smallest remainder of all visible ancestors. Page
 * cache of a group counts as available, swap does not. Undefined if there is no limit.
 */
export function groupLimit(): MemoryLimit | undefined {
  let smallest: MemoryLimit | undefined;
  for (const mount of memoryMounts()) {
    const place = placeIn(mount);
    if (place === undefined) continue;
    for (const [index, folder] of place.folders.entries()) {
      // Before Linux 5.11, a group of version 1 counted the groups below it only if configured to do so.
      if (index > 0 && lineOf(`${folder}/memory.use_hierarchy`) === '0') continue;
      for (const limit of limitsIn(folder, place.version)) {
        if (smallest === undefined || limit.available < smallest.available) smallest = limit;
      }
    }
  }
  return smallest;
}
