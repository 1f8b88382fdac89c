import { allocateSync, openHandles } from 'dmabuf';
import { collectUntil } from '../support/event-loop.js';
import type { Scenario } from './scenario.js';

/** Ends lines, clears screens, turns text around: 30 bytes of 31. */
const hostile = '\n\r\x1b[2J\x9b2J\x85\u2028\u202e\x7f"\\(x)\n';

export const scenarios: readonly Scenario[] = [
  {
    name: 'a hostile name',
    async run() {
      (() => void allocateSync(64 * 1024, { name: hostile }))();
      await collectUntil(() => openHandles().length === 0, 'the buffer is closed');
    },
  },
];
