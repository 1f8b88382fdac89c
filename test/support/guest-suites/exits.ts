// A file that ends as if all were well before its tests have, for test/vm/guest-tests.test.ts.

import { test } from 'node:test';

test('ends the process', async () => {
  await new Promise((resolve) => setImmediate(resolve));
  process.exit(0);
});
