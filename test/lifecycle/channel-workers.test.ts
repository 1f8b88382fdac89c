import { scenarios } from './channel-workers.scenarios.js';
import { testTogether } from './run.js';
import { manyWorkers } from './threads.js';

testTogether(
  'a worker that uses channels may end at any moment, where there are dma-bufs and where there are none',
  new URL('./channel-workers.scenarios.js', import.meta.url),
  scenarios,
  { skip: false, limit: 100 + 4 * manyWorkers },
);
