import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { openFds } from '../support/descriptors.js';
import { socketFds } from '../support/observe.js';
import type { Scenario } from './scenario.js';
import { manyWorkers, terminateAtRandom } from './threads.js';

export const scenarios: readonly Scenario[] = [
  {
    name: `${manyWorkers} workers that are terminated at random moments, while they use channels and streams, leave no socket`,
    async run() {
      const sockets = socketFds();
      const others = new Set(openFds().keys());
      const fd = openSync('/dev/null', 'r');
      await terminateAtRandom('use channels over and over', { fd });
      assert.equal(socketFds(), sockets);
      closeSync(fd);
      // A descriptor of another kind arrives as a number, which is lost with its worker.
      for (const [number, target] of openFds()) {
        if (!others.has(number) && target === '/dev/null') closeSync(number);
      }
    },
  },
];
