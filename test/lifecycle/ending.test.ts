import { describe } from 'node:test';
import { scenarios } from './ending.scenarios.js';
import { type Ending, testEnding } from './run.js';

/** Those that do not end with code 0 and without a word. */
const promised: Readonly<Record<string, Ending>> = {
  'process.exit() with everything open, during a CPU access, with jobs on all threads': { code: 7 },
  'process.exit() as a message arrives, while others wait': { code: 7 },
  'process.exit() as bytes with descriptors arrive, while others wait': { code: 7 },
  'an exception in a loop over messages': { code: 1, stderr: /Error: as expected\n/ },
  'an exception that nobody catches, during a CPU access': { code: 1, stderr: /Error: as expected\n/ },
  'a rejection that nobody handles, of an allocation': { code: 1, stderr: /code: 'ERR_DMABUF_CLOSED'/ },
  'a write to a mapping with faultOnWrite': { signal: 'SIGSEGV' },
  'process.exit() while workers map, allocate and release': { code: 7 },
  'a worker throws and nobody listens': { code: 1, stderr: /Error: as expected\n/ },
};

describe('the process ends as it should', { concurrency: 2 }, () => {
  const file = new URL('./ending.scenarios.js', import.meta.url);
  for (const scenario of scenarios) testEnding(file, scenario, promised[scenario.name]);
});
