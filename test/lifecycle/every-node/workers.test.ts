import { testTogether } from '../run.js';
import { manyWorkers } from '../threads.js';
import { scenarios } from './workers.scenarios.js';

testTogether(
  'a worker may end at any moment',
  new URL('./workers.scenarios.js', import.meta.url),
  scenarios,
  {
    limit: 600 + 4 * manyWorkers,
  },
);
