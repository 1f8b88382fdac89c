import { DmaBufError } from '../errors.js';
import { hideHandle, showHandle } from '../handle.js';
import { native, Yielded } from '../native.js';
import { heapFolder, isNamed } from './device-files.js';
import { type HeapDevice, openHeapDevice } from './heap-device.js';
import { isChosenByName, resolveHeap } from './heap-list.js';

// The heaps that allocate() is told by name stay open, and what is not there is remembered, in each environment by itself: to
// look for a heap takes several times as long as a small allocation. All is forgotten as soon as a name comes to the folder of
// the heaps, or goes (a module was loaded, udev has made a link), and an open heap also when its path leads elsewhere, or this
// process may no longer open it.

/** A heap, and the path by which it was found; or why there is none. */
type Found = { readonly device: HeapDevice; readonly path: string } | DmaBufError;

const found = new Map<string, Found>();
/** Names may come from a program's users. */
const mostFound = 32;
/** The state of the folder in which all was found. */
let stamp: string | undefined;

function close({ slot }: HeapDevice): void {
  showHandle(slot);
  native.close(slot);
}

function forget(name: string, what: Found): void {
  found.delete(name);
  if (!(what instanceof DmaBufError)) close(what.device);
}

function open(path: string): HeapDevice {
  const device = openHeapDevice(path);
  hideHandle(device.slot);
  // From here on it is this file that closes it.
  native.unclaimed[Yielded.only] = 0;
  return device;
}

/** What is known of the name, unless it no longer holds. */
function recall(name: string): Found | undefined {
  const now = native.stampOfFolder(heapFolder);
  if (now === undefined || now !== stamp) {
    for (const [other, what] of found) forget(other, what);
    stamp = now;
  }
  const what = found.get(name);
  if (what === undefined || what instanceof DmaBufError) return what;
  if (native.isHeapAt(what.device.slot, what.path)) return what;
  forget(name, what);
  return undefined;
}

/** Whether the folder's names alone decide what is found, so that it may be remembered. */
function isLasting(name: string, error?: unknown): boolean {
  if (stamp === undefined || name.includes('/') || found.size >= mostFound) return false;
  if (error === undefined) return name !== 'cma' || isChosenByName();
  if (!(error instanceof DmaBufError) || error.code !== 'ENOENT') return false;
  if (name === 'cma') return isChosenByName();
  return !isNamed(`${heapFolder}/${name}`);
}

/**
 * Calls `use` with the heap of that name or path. It may be closed as soon as `use` returns.
 *
 * @throws DmaBufError as DmaHeap.open(); for a heap that is known not to be there, the same object again
 */
export function useHeap<T>(name: string, use: (device: HeapDevice) => T): T {
  const known = recall(name);
  if (known instanceof DmaBufError) throw known;
  if (known !== undefined) return use(known.device);
  const path = resolveHeap(name);
  let device: HeapDevice;
  try {
    device = open(path);
  } catch (error) {
    if (isLasting(name, error)) found.set(name, error as DmaBufError);
    throw error;
  }
  let stays = false;
  try {
    if (isLasting(name)) {
      found.set(name, { device, path });
      stays = true;
    }
    return use(device);
  } finally {
    if (!stays) close(device);
  }
}
