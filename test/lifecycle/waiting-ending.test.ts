import { describe } from 'node:test';
import { type Ending, testEnding } from './run.js';
import { scenarios } from './waiting-ending.scenarios.js';

/** Those that do not end with code 0 and without a word. */
const promised: Readonly<Record<string, Ending>> = {
  'process.exit() while 1 000 waits are pending': { code: 7 },
  'process.exit() as 1 000 waits settle': { code: 7 },
  'process.exit() in a wait that settles, before the others': { code: 7 },
  'an exception that nobody catches while 1 000 waits are pending': {
    code: 1,
    stderr: /Error: as expected\n/,
  },
  'process.exit() while cpuAccess() waits for a second fence': { code: 7 },
  'a wait of which nobody takes the rejection ends the process with its error': {
    code: 1,
    stderr: /code: 'ETIMEDOUT'/,
  },
  'process.exit() while a pool allocates, waits and lends': { code: 7 },
};

describe('the process ends as it should, whatever waits', { concurrency: 2 }, () => {
  const file = new URL('./waiting-ending.scenarios.js', import.meta.url);
  for (const scenario of scenarios) testEnding(file, scenario, promised[scenario.name]);
});
