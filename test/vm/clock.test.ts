// What this machine's Debian mirror offers one day: the demo runs on it, or says what is missing.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { describe, it } from 'node:test';
import { findKernel } from '../../lib/vm/kernels.js';
import type { AptRepository } from '../support/apt-repository.js';
import { mirrorWithTools } from '../support/mirrors.js';
import { packageRoot } from '../support/programs.js';

function demo(debian: AptRepository): { status: number | null; stderr: string } {
  const env = { ...process.env, ...debian.env };
  return spawnSync(process.execPath, ['scripts/demo.mjs'], { cwd: packageRoot, env, encoding: 'utf8' });
}

describe('npm run demo', () => {
  it('ends well where backports have only a series that nobody has heard of', async () => {
    using debian = await mirrorWithTools();
    const { image } = await findKernel('newest', { progress: () => {} });
    debian.publish('trixie-backports', '7.99.1+deb13-amd64', undefined, { folder: dirname(image) });
    const { status, stderr } = demo(debian);
    assert.match(stderr, /kernel 7\.99\.1\+deb13-amd64 is ready/);
    assert.equal(status, 0, stderr);
  });

  it('says exactly what is missing where there is no kernel, and none in the cache', async () => {
    using debian = await mirrorWithTools();
    debian.addSuite('trixie-backports');
    const { status, stderr } = demo(debian);
    assert.match(stderr, /^demo: ERR_DMABUF_VM_KERNEL: no kernel for 'newest' is available; /m);
    assert.equal(status, 1, stderr);
  });
});
