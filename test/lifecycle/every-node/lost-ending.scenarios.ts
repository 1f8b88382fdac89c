import assert from 'node:assert/strict';
import { allocateSync } from 'dmabuf';
import { catchFaults, fault, loadCopy, noticed, lostSize as size } from '../../support/faults.js';
import type { Scenario } from '../scenario.js';

export const scenarios: readonly Scenario[] = [
  {
    name: "a fault that is nobody's ends the process with SIGBUS, as without this package",
    run() {
      noticed().buffer.close();
      fault();
    },
  },
  {
    name: 'SIGBUS that somebody sends ends the process, as without this package',
    async run() {
      noticed().buffer.close();
      process.kill(process.pid, 'SIGBUS');
      await new Promise((resolve) => setTimeout(resolve, 1000));
    },
  },
  {
    name: "a fault that is nobody's ends the process with SIGBUS, also beside a second copy of the addon",
    run() {
      const copy = loadCopy();
      const source = allocateSync(size);
      for (let round = 0; round < 3; round++) {
        source.map().unmap();
        copy.map(copy.importFd(source.fd, false), true, 0, size);
      }
      fault();
    },
  },
  {
    name: 'a handler that was there first is asked about what is not ours',
    run() {
      catchFaults();
      noticed().buffer.close();
      assert.equal(fault(), 1);
      process.exit(3);
    },
  },
];
