// What this machine's Debian mirror offers one day: the demo runs on it, or says what is missing.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { cacheFolder } from '../../lib/vm/cache-folder.js';
import { findKernel } from '../../lib/vm/kernels.js';
import { provideTools } from '../../lib/vm/provision.js';
import { AptRepository } from '../support/apt-repository.js';
import { packageRoot } from '../support/programs.js';

/** A mirror, and a cache that has the tools, which are not what this is about. */
async function mirror(): Promise<AptRepository> {
  await provideTools({ progress: () => {}, signal: undefined });
  const debian = new AptRepository();
  const cache = join(debian.env.XDG_CACHE_HOME, 'dmabuf');
  mkdirSync(cache, { recursive: true });
  symlinkSync(join(cacheFolder(), 'busybox-static'), join(cache, 'busybox-static'));
  return debian;
}

function demo(debian: AptRepository): { status: number | null; stderr: string } {
  const env = { ...process.env, ...debian.env };
  return spawnSync(process.execPath, ['scripts/demo.mjs'], { cwd: packageRoot, env, encoding: 'utf8' });
}

describe('npm run demo', () => {
  it('ends well where backports have only a series that nobody has heard of', async () => {
    using debian = await mirror();
    const { image } = await findKernel('newest', { progress: () => {} });
    debian.publish('trixie-backports', '7.99.1+deb13-amd64', undefined, { folder: dirname(image) });
    const { status, stderr } = demo(debian);
    assert.match(stderr, /kernel 7\.99\.1\+deb13-amd64 is ready/);
    assert.equal(status, 0, stderr);
  });

  it('says exactly what is missing where there is no kernel, and none in the cache', async () => {
    using debian = await mirror();
    debian.addSuite('trixie-backports');
    const { status, stderr } = demo(debian);
    assert.match(stderr, /^demo: ERR_DMABUF_VM_KERNEL: there is no kernel for 'newest' to be had; /m);
    assert.equal(status, 1, stderr);
  });
});
