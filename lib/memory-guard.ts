import { DmaBufError } from './errors.js';
import { native } from './native.js';

function refuse(size: number, available: number, counter: string): never {
  throw new DmaBufError(
    `ERR_DMABUF_MEMORY_GUARD: ${size} bytes were asked for and ${available} are available (${counter} in ` +
      '/proc/meminfo). The kernel would not refuse but kill processes to find the memory. Ask for less, free ' +
      'some, or pass unchecked: true',
    { code: 'ERR_DMABUF_MEMORY_GUARD' },
  );
}

/**
 * Refuses what the machine cannot give: the kernel does not, and its OOM killer takes other people's processes
 * first.
 *
 * @param contiguous Whether the memory comes from the CMA region, which is counted on its own.
 */
export function guardMemory(size: number, contiguous: boolean): void {
  // Free memory is available memory, but for some reserve pages; asking for it costs a fraction of reading
  // /proc/meminfo, and most requests are far below it.
  if (!contiguous && size <= native.freeMemory() / 2) return;
  native.availableMemory();
  const [available, cmaFree] = native.registers as unknown as [number, number];
  if (size > available) refuse(size, available, 'MemAvailable');
  if (contiguous && cmaFree >= 0 && size > cmaFree) refuse(size, cmaFree, 'CmaFree');
}
