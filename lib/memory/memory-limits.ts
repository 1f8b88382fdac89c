import { native, Register } from '../native.js';
import { foldersIn, namesIn, textOf } from '../text-file.js';

// How much memory there is for a buffer, by the kernel's own counters: of the machine, and of the control groups that this
// process is in.

/** What one counter leaves, in bytes. */
export interface MemoryLimit {
  available: number;
  /** Which counter, for people. */
  counter: string;
}

/** A file's first line; undefined where it cannot be read. */
function lineOf(path: string): string | undefined {
  return textOf(path)?.split('\n', 1)[0];
}

/** A file with one number in it; infinity for 'max' and where it cannot be read. */
function numberIn(path: string): number {
  const line = lineOf(path);
  return line === undefined || line === 'max' ? Number.POSITIVE_INFINITY : Number(line);
}

// ---- the machine

/**
 * Contiguous memory (CMA) of this kernel in bytes, fixed at boot. Above what is free at first, so that the first look is a
 * thorough one.
 */
let contiguous = Number.POSITIVE_INFINITY;

/**
 * Bytes that, by a look at one cheap counter, are available outside of CMA: half of what is free, if that is more than an
 * eighth of all memory. Of less, the kernel's own reserves are a great part: MemAvailable was 0 where 49 MiB of 1 GiB were
 * free.
 */
export function surelyAvailable(): number {
  const free = native.freeMemory() - contiguous;
  return free > (native.registers[Register.totalMemory] as number) / 8 ? Math.floor(free / 2) : 0;
}

/** Whether no machine of this size could have so many bytes. */
export function exceedsAllMemory(size: number): boolean {
  native.freeMemory();
  const total = native.registers[Register.totalMemory] as number;
  return total > 0 && size > total;
}

/**
 * What the kernel can give for memory that cannot be moved: what MemAvailable counts, less what lies in CMA, where only
 * memory goes that can be. It counts free pages there, and page cache, of which the kernel does not say where it is: as much
 * as may be there is taken to be there. (Seen with cma=1200M of 2 GiB and 500 MiB of page cache: MemAvailable - CmaFree was
 * 1119 MiB, and the kernel began to kill at 680.)
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
  // MemAvailable leaves the kernel half of the page cache, or what its zones shall keep free: 5/4 of their minimum.
  const low = numberIn('/proc/sys/vm/min_free_kbytes') * 1024 * 1.25;
  const counted = (pages: number): number => pages - Math.min(pages / 2, low);
  const outside = available - kept - cmaFree - counted(fileCache) + counted(fileCache - inside);
  return {
    available: Math.max(0, Math.floor(outside)),
    counter: 'MemAvailable less CmaFree and the page cache in contiguous memory, in /proc/meminfo',
  };
}

/** All of CMA in bytes; 0 where there is none. */
export function contiguousTotal(): number {
  native.availableMemory();
  return native.registers[Register.cmaTotal] as number;
}

/**
 * Left to the programs that run: MemAvailable counts the page cache with their code in it, and a kernel that has to take that
 * kills first. (Seen on 1 GiB: buffers of 4 MiB until MemAvailable was 2 MiB ended in the OOM killer.)
 */
function machineReserve(): number {
  native.freeMemory();
  const total = native.registers[Register.totalMemory] as number;
  return Math.floor(Math.min(total / 64, 32 * 2 ** 20));
}

/** Bytes of CMA that no device uses: free, or with pages in it that make way. All of it where sysfs does not say. */
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

/** A hierarchy of control groups that counts memory, and this process's place in it. */
interface Place {
  version: 1 | 2;
  /** Folders from the process's own group up to the uppermost that can be seen. */
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

/** This process's group in the hierarchy of either version, as /proc/self/cgroup has it. */
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
 * Bytes of a group and those below it that the kernel takes back when they reach a limit, before it kills: page cache but
 * for what is mapped, which the programs that run need again at once.
 */
function reclaimable(folder: string, version: 1 | 2): number {
  const stat = textOf(`${folder}/memory.stat`) ?? '';
  const prefix = version === 2 ? '' : 'total_';
  const cache = statistic(stat, `${prefix}inactive_file`) + statistic(stat, `${prefix}active_file`);
  const mapped = statistic(stat, version === 2 ? 'file_mapped' : 'total_mapped_file');
  return Math.max(0, cache - mapped) + (version === 2 ? statistic(stat, 'slab_reclaimable') : 0);
}

/** What a group's processes themselves go on needing: JavaScript's heap grows and shrinks. */
function keptFor(limit: number): number {
  return Math.min(limit / 16, 16 * 2 ** 20);
}

/** The limits of one group: the hard one, and in version 2 the one from which on the kernel slows its processes down. */
function* limitsIn(folder: string, version: 1 | 2): Generator<MemoryLimit> {
  const [usageFile, ...limitFiles] =
    version === 2
      ? ['memory.current', 'memory.max', 'memory.high']
      : ['memory.usage_in_bytes', 'memory.limit_in_bytes'];
  for (const file of limitFiles) {
    const limit = numberIn(`${folder}/${file}`);
    // Version 1 has the largest number of pages for no limit.
    if (limit >= 2 ** 60) continue;
    const usage = numberIn(`${folder}/${usageFile}`);
    if (!Number.isFinite(usage)) continue;
    const available = Math.max(0, limit - usage + reclaimable(folder, version) - Math.ceil(keptFor(limit)));
    yield { available, counter: `${file} of ${limit} bytes in ${folder}` };
  }
}

/**
 * What the control groups of this process leave of memory that is charged to them: the smallest of every ancestor's limits
 * that can be seen. Page cache of a group counts as available, swap does not. Undefined where none limits.
 */
export function groupLimit(): MemoryLimit | undefined {
  let smallest: MemoryLimit | undefined;
  for (const mount of memoryMounts()) {
    const place = placeIn(mount);
    if (place === undefined) continue;
    for (const [index, folder] of place.folders.entries()) {
      // Before Linux 5.11, a group of version 1 counted what is below it only when told so.
      if (index > 0 && lineOf(`${folder}/memory.use_hierarchy`) === '0') continue;
      for (const limit of limitsIn(folder, place.version)) {
        if (smallest === undefined || limit.available < smallest.available) smallest = limit;
      }
    }
  }
  return smallest;
}
