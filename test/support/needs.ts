// Why a test cannot run here: `false` when it can.

import { closeSync, openSync } from 'node:fs';

/** Says by the error of `use` why a test that needs it cannot run. */
export function whyNot(use: () => unknown, explain: (message: string) => string): string | false {
  try {
    use();
    return false;
  } catch (error) {
    return explain((error as Error).message);
  }
}

/** Why nothing can be tested here that needs a dma-buf. */
export const noHeap: string | false = whyNot(
  () => closeSync(openSync('/dev/dma_heap/system', 'r')),
  (message) => `${message}; run the tests in a VM`,
);

export const notRoot: string | false = process.getuid?.() === 0 ? false : 'needs root';
