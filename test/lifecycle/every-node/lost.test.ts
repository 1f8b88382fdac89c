import { describe } from 'node:test';
import { type Ending, testEnding, testTogether } from '../run.js';
import { scenarios } from './lost.scenarios.js';
import { scenarios as endings } from './lost-ending.scenarios.js';

testTogether(
  'a buffer whose exporter answers with SIGBUS cannot end the process',
  new URL('./lost.scenarios.js', import.meta.url),
  scenarios,
);

/** The others end with SIGBUS. */
const promised: Readonly<Record<string, Ending>> = {
  'a handler that was there first is asked about what is not ours': { code: 3 },
};

describe('SIGBUS of others', { concurrency: 2 }, () => {
  const file = new URL('./lost-ending.scenarios.js', import.meta.url);
  for (const scenario of endings) testEnding(file, scenario, promised[scenario.name] ?? { signal: 'SIGBUS' });
});
