// Tests that need dma-bufs, for machines without any. On such a machine, this file starts a virtual machine (a guest)
// for each kernel and runs itself there; in the guest, it runs the tests. All are reported as one run of node:test,
// each with its name, its line and its error.
//
//   node --test kernel.test.js

import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { allocate } from 'dmabuf';
import { testInVm } from 'dmabuf/vm';

const kernels = (process.env.KERNELS ?? 'stable,newest').split(',');

// This variable is set in guests.
if (process.env.DMABUF_VM === undefined) {
  for (const kernel of kernels) {
    test(`on kernel ${kernel}`, (t) => testInVm(t, { kernel, files: [fileURLToPath(import.meta.url)] }));
  }
} else {
  describe('a buffer', () => {
    it('keeps what is written to it', async () => {
      using buffer = await allocate(4096);
      await buffer.withCpuAccess('write', (bytes) => bytes.fill(7));
      assert.equal(await buffer.withCpuAccess('read', (bytes) => bytes[4095]), 7);
    });

    it('has the name that it was given', async () => {
      using buffer = await allocate(4096, { name: 'frame' });
      assert.equal(buffer.info().name, 'frame');
    });
  });
}
