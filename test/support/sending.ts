import assert from 'node:assert/strict';
import { allocateSync, type DmaBuf } from 'dmabuf';
import type { Pair } from './channels.js';
import { nextText } from './messages.js';

/** Nothing was sent but what is sent now. */
export async function assertNothingSent({ here, there }: Pair): Promise<void> {
  await here.send('the first');
  assert.equal(await nextText(there), 'the first');
}

export function buffers(count: number): DmaBuf[] {
  return Array.from({ length: count }, () => allocateSync(4096));
}
