// A file that takes the guest's kernel with it, for test/vm/guest-tests.test.ts.

import { writeFileSync } from 'node:fs';
import { test } from 'node:test';

test('crashes the kernel', async () => {
  console.log('before the crash');
  await new Promise((resolve) => setImmediate(resolve));
  writeFileSync('/proc/sysrq-trigger', 'c');
});
