import { basename } from 'node:path';
import type { DmaBuf } from '../buffer/dma-buf.js';
import { type CallSite, createError, DmaBufError, partsOf } from '../errors.js';
import { escapeName } from '../escape.js';
import { native, type Slot } from '../native.js';
import { finishAllocation, runAllocation } from './allocation.js';
import { withDeviceAdvice } from './device-advice.js';
import { realPathOf } from './device-files.js';
import { kindOf, listHeaps } from './heap-list.js';
import { guardMemory, kindOfHeapMemory, type MemoryKind, whileReserved } from './memory-guard.js';
import type { BufferRequest } from './request.js';

/** An open heap, as allocations need it. */
export interface HeapDevice {
  readonly slot: Slot;
  /** With symbolic links resolved. */
  readonly path: string;
  readonly name: string;
  readonly memory: MemoryKind;
}

/** Of what is in the list and is no heap at all. */
const isNoHeap = new Set<string | undefined>(['ENOTTY', 'ENOENT', 'ELOOP']);

function openNative(path: string): Slot {
  try {
    return withDeviceAdvice(path, 'heap', () => native.openHeap(path));
  } catch (error) {
    if (!(error instanceof DmaBufError) || error.code !== 'ENOENT') throw error;
    const names = listHeaps().flatMap(({ name, error: why }) =>
      isNoHeap.has(why) ? [] : [escapeName(name)],
    );
    const found = names.length === 0 ? 'There is no heap here' : `Heaps here: ${names.join(', ')}`;
    throw createError(error.errno as number, error.syscall, path, [...partsOf(error).advice, found]);
  }
}

/** Opens the heap at a path; whoever calls claims its slot. */
export function openHeapDevice(asked: string): HeapDevice {
  const slot = openNative(asked);
  const path = realPathOf(asked);
  const name = basename(path);
  return { slot, path, name, memory: kindOf(name) === 'cma' ? 'contiguous' : kindOfHeapMemory() };
}

/** Allocates what has been asked for and checked; `site` is the user's call. */
export async function allocateOnDevice(
  { slot, name, memory }: HeapDevice,
  request: BufferRequest,
  signal: AbortSignal | undefined,
  site: CallSite,
): Promise<DmaBuf> {
  const { size, accessMode, unchecked } = request;
  if (!unchecked) guardMemory(size, memory);
  const start = whileReserved(size, memory, (done) => native.allocateAsync(slot, size, accessMode, done));
  return await runAllocation(start, request, signal, name, site);
}

/** The same now. */
export function allocateOnDeviceSync(device: HeapDevice, request: BufferRequest): DmaBuf {
  const { size, name, accessMode, unchecked } = request;
  if (!unchecked) guardMemory(size, device.memory);
  return finishAllocation(native.allocateSync(device.slot, size, accessMode), name, device.name);
}
