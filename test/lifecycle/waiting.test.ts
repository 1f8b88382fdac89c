import { testTogether } from './run.js';
import { scenarios } from './waiting.scenarios.js';

testTogether('waits end with who waits', new URL('./waiting.scenarios.js', import.meta.url), scenarios, {
  stderr: [/A DmaBuf of 4096 bytes \(inode \d+, system\) was/, /A SyncFile was/],
});
