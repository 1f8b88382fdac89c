import { DmaBufError } from './errors.js';
import { native } from './native.js';

/** Bytes that may pass between two looks at the machine's memory. */
const grain = 1 << 20;
let passed = grain;

function refuse(size: number, available: number, counter: string): never {
  throw new DmaBufError(
    `ERR_DMABUF_MEMORY_GUARD: ${size} bytes were asked for and ${available} are available (${counter} in ` +
      '/proc/meminfo). The kernel would not refuse but kill processes to find the memory',
    { code: 'ERR_DMABUF_MEMORY_GUARD', hint: 'Ask for less, free some, or pass unchecked: true' },
  );
}

/**
 * Refuses what the machine cannot give: the kernel does not, and its OOM killer takes other people's processes
 * first. Small requests are let through until they add up to a mebibyte.
 *
 * @param contiguous Whether the memory comes from the CMA region, which is counted on its own.
 */
export function guardMemory(size: number, contiguous: boolean): void {
  passed += size;
  if (passed >= grain || contiguous) checkMemory(size, contiguous);
}

function checkMemory(size: number, contiguous: boolean): void {
  if (!contiguous && size <= native.freeMemory() / 2) {
    passed = 0;
    return;
  }
  native.availableMemory();
  const available = native.registers[0] as number;
  const cmaFree = native.registers[1] as number;
  if (size > available) refuse(size, available, 'MemAvailable');
  if (contiguous && cmaFree >= 0 && size > cmaFree) refuse(size, cmaFree, 'CmaFree');
  passed = 0;
}
