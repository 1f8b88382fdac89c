// An outer run for test/vm/guest-tests.test.ts: one guest for each group of files.

import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { testInVm } from 'dmabuf/vm';

const cwd = fileURLToPath(new URL('.', import.meta.url));

describe('guests', { concurrency: true }, () => {
  for (const files of (process.env.DMABUF_TEST_FILES_OF_GUESTS ?? '').split(';')) {
    const options = { kernel: 'stable', cwd, files: files.split(','), nodeOptions: ['--expose-gc'] };
    it(files, (t) => testInVm(t, options));
  }
});
