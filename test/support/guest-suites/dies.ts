// A file whose process dies, for test/vm/guest-tests.test.ts.

import { describe, it } from 'node:test';

describe('a suite that dies', () => {
  it('passes before', () => {});
  it('dies', async () => {
    console.log('the last words');
    await new Promise((resolve) => setImmediate(resolve));
    process.kill(process.pid, 'SIGSEGV');
    await new Promise(() => {});
  });
  it('is never run', () => {});
});
