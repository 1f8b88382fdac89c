import { closeSync, constants, existsSync, openSync, readdirSync } from 'node:fs';
import { basename } from 'node:path';
import { invalidType, outOfRange } from '../check.js';
import { namesIn } from '../text-file.js';
import { type DeviceKind, heapFolder, isNamed, linkOf, realPathOf, strangerAt } from './device-files.js';

/** What kind of memory a heap gives, told from its name. */
export type HeapKind = 'system' | 'cma' | 'protected' | 'shared' | 'unknown';

/** A heap as {@link DmaHeap.list} found it. */
export interface HeapInfo {
  /** Name of the device, with symbolic links resolved. */
  name: string;
  /** Path of the device, with symbolic links resolved. */
  path: string;
  /**
   * `system`: any pages; `cma`: physically contiguous; `protected`: for secure video, not for the CPU;
   * `shared`: visible to the host of a confidential guest.
   */
  kind: HeapKind;
  /** Whether this process may open it, which is the only right that an allocation needs. */
  accessible: boolean;
  /**
   * The reason if not: the errno's name, mostly `'EACCES'`, or `'ENOTTY'` if the path is not a heap; `DmaHeap.open()`
   * then says what to do. Absent when it is accessible.
   */
  error?: string;
  /**
   * Its other names: symbolic links in the same folder, and the other device of the default contiguous region, which
   * has two since Linux 6.17. Absent when there are none.
   */
  aliases?: string[];
}

/** Names of contiguous heaps in the order of preference, from the kernel's versions and from vendors. */
const contiguousNames = [
  'default_cma_region', // Linux 6.17
  'linux,cma',
  'reserved',
  'default-pool',
  'cma',
  'linux,cma-uncached',
];

/** The default contiguous region since Linux 6.17. */
const defaultRegion = contiguousNames[0] as string;

/** What else it may be called: the kernel's document userspace-api/dma-buf-heaps. */
const olderNames = new Set(['linux,cma', 'reserved', 'default-pool']);

/** What kind of memory a heap of that name gives. */
export function kindOf(name: string): HeapKind {
  if (name === 'system_cc_shared') return 'shared';
  if (name === 'system' || name.startsWith('system-')) return 'system';
  if (contiguousNames.includes(name) || name.startsWith('linux,cma@')) return 'cma';
  if (name.startsWith('protected')) return 'protected';
  return 'unknown';
}

function errorCode(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}

function describe(path: string): HeapInfo {
  const name = basename(path);
  return { name, path, kind: kindOf(name), ...access(path) };
}

/** Whether the device can be opened, and if not, why; `ENOTTY` where something else lies there, which is not opened. */
export function access(path: string, kind: DeviceKind = 'heap'): Pick<HeapInfo, 'accessible' | 'error'> {
  // A worker that is being terminated must not be told by an exception (see text-file.ts); nor can existsSync() be asked,
  // which the device control group answers as it answers open(2).
  if (!isNamed(path)) return { accessible: false, error: 'ENOENT' };
  if (strangerAt(path, kind) !== undefined) return { accessible: false, error: 'ENOTTY' };
  try {
    closeSync(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY));
    return { accessible: true };
  } catch (error) {
    return { accessible: false, error: errorCode(error) };
  }
}

/**
 * Lists `/dev/dma_heap`. Where its names may not be read, those heaps that have a usual name, if they can be reached,
 * and the folder itself in place of those that cannot be seen.
 */
export function listHeaps(): HeapInfo[] {
  const heaps = new Map<string, HeapInfo>();
  const links: [string, string][] = [];
  for (const entry of namesOf(heaps).sort()) {
    const path = `${heapFolder}/${entry}`;
    const target = realPathOf(path);
    if (target === path) heaps.set(path, describe(path));
    else links.push([entry, target]);
  }
  for (const [alias, target] of links) {
    const path = `${heapFolder}/${alias}`;
    if (strangerAt(target, 'heap') !== undefined) {
      heaps.set(path, describe(path));
      continue;
    }
    const heap = heaps.get(target) ?? describe(target);
    heaps.set(target, heap);
    heap.aliases = [...(heap.aliases ?? []), alias];
  }
  joinDefaultRegion(heaps);
  return [...heaps.values()];
}

/**
 * The default contiguous region has a second device under its older name. It is one heap: the newer name stands for it, unless
 * only the older one may be used.
 */
function joinDefaultRegion(heaps: Map<string, HeapInfo>): void {
  const newer = heaps.get(`${heapFolder}/${defaultRegion}`);
  const [older, ...others] = [...heaps.values()].filter(({ name }) => olderNames.has(name));
  // Of several, nobody knows which is the one.
  if (newer === undefined || older === undefined || others.length > 0) return;
  const [heap, other] = newer.accessible || !older.accessible ? [newer, older] : [older, newer];
  heaps.delete(other.path);
  heap.aliases = [other.name, ...(heap.aliases ?? []), ...(other.aliases ?? [])];
}

function namesOf(heaps: Map<string, HeapInfo>): string[] {
  if (!mayExist(heapFolder)) return [];
  try {
    return readdirSync(heapFolder);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    const name = basename(heapFolder);
    heaps.set(heapFolder, {
      name,
      path: heapFolder,
      kind: 'unknown',
      accessible: false,
      error: errorCode(error),
    });
    return ['system', ...contiguousNames].filter((heap) => mayExist(`${heapFolder}/${heap}`));
  }
}

/** Deno throws where it does not allow a look; a folder that may not be listed stands for what cannot be seen. */
function mayExist(path: string): boolean {
  try {
    return existsSync(path);
  } catch {
    return false;
  }
}

/**
 * Whether the names in the folder alone decide what `'cma'` stands for: no link among them, and not the rights of this
 * process, for lack of which it would stand for another heap than the first by name.
 */
export function isChosenByName(): boolean {
  if (!isNamed(heapFolder)) return true;
  const names = namesIn(heapFolder);
  if (names === undefined || names.some((name) => linkOf(`${heapFolder}/${name}`) !== undefined))
    return false;
  const contiguous = names.filter((name) => kindOf(name) === 'cma').sort((a, b) => rankOf(a) - rankOf(b));
  return contiguous.length === 0 || basename(resolveHeap('cma')) === contiguous[0];
}

/** A heap's name, alias or path, whether it exists or not. */
export function checkHeapName(heap: unknown): string {
  if (typeof heap !== 'string') throw invalidType('heap', "a heap's name or path", heap);
  if (heap === '' || heap.includes('\0')) throw outOfRange('heap', 'not empty and without NUL', heap);
  return heap;
}

/** The order of preference; those with names of their own come last. */
function rankOf(name: string): number {
  return (contiguousNames.indexOf(name) + 100) % 100;
}

/** Where to find a heap that was asked for by name, alias or path. */
export function resolveHeap(asked: unknown): string {
  const heap = checkHeapName(asked);
  if (heap.includes('/')) return heap;
  if (heap !== 'cma') return `${heapFolder}/${heap}`;
  const heaps = listHeaps().filter((info) => info.kind === 'cma');
  const [best] = heaps.sort(
    (a, b) => Number(b.accessible) - Number(a.accessible) || rankOf(a.name) - rankOf(b.name),
  );
  return best?.path ?? `${heapFolder}/cma`;
}
