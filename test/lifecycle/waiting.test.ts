import { testTogether } from './run.js';
import { scenarios } from './waiting.scenarios.js';

testTogether('waits end with who waits', new URL('./waiting.scenarios.js', import.meta.url), scenarios, [
  /A DmaBuf was/,
  /A SyncFile was/,
]);
