import assert from 'node:assert/strict';
import { allocateSync } from 'dmabuf';
import { errorOf } from '../../support/expect.js';
import { kernelTest } from '../../support/kernel-test.js';
import { bufferOptionRows, countedOptions } from '../../support/option-rows.js';

for (const [name, call] of Object.entries(bufferOptionRows)) {
  kernelTest(`an option that does not exist is refused by ${name}`, async () => {
    using buffer = allocateSync(4096);
    using file = buffer.exportSyncFile('read');
    const error = await errorOf(async () => call(buffer, { nonsence: 1 } as never, file));
    assert.equal(error.code, 'ERR_INVALID_ARG_VALUE', error.message);
    assert.match(error.message, /'nonsence' here\. The options are: \w+/);
  });
}

for (const [name, call] of Object.entries(bufferOptionRows)) {
  kernelTest(`each option is read once by ${name}`, async () => {
    using buffer = allocateSync(4096);
    using file = buffer.exportSyncFile('read');
    const { options, reads } = countedOptions();
    await Promise.resolve(call(buffer, options, file)).catch(({ code }) => assert.equal(code, 'ETIMEDOUT'));
    assert.ok(reads.size > 0, 'no option was read');
    assert.deepEqual(
      [...reads].filter(([, count]) => count > 1),
      [],
    );
  });
}
