import assert from 'node:assert/strict';
import { readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { Arch } from '../../lib/vm/arch.js';
import { completeKernels } from '../../lib/vm/debian-kernel.js';
import { findKernel } from '../../lib/vm/kernels.js';
import { AptRepository } from '../support/apt-repository.js';

describe('a kernel by name', () => {
  let debian: AptRepository;
  let before: NodeJS.ProcessEnv;
  const told: string[] = [];

  beforeEach(() => {
    before = { ...process.env };
    debian = new AptRepository();
    Object.assign(process.env, debian.env);
    told.length = 0;
  });
  afterEach(() => {
    for (const name of Object.keys(debian.env)) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
    debian[Symbol.dispose]();
  });

  /** The release that a name leads to. */
  async function find(name: string, arch: Arch = 'x64'): Promise<string> {
    told.length = 0;
    return (await findKernel(name, { arch, progress: (message) => told.push(message) })).release;
  }

  /** Has all names looked up again, as after a day. */
  function passDay(): void {
    const path = join(debian.kernels, 'names.json');
    const names = JSON.parse(readFileSync(path, 'utf8')) as Record<string, { asked: number }>;
    for (const name of Object.values(names)) name.asked -= 24 * 3600 * 1000;
    writeFileSync(path, JSON.stringify(names));
  }

  const saidThat = (pattern: RegExp): void =>
    assert.ok(
      told.some((message) => pattern.test(message)),
      told.join('\n'),
    );

  it('is the newest of backports, also of a series that nobody has heard of', async () => {
    for (const version of ['7.3.4+deb13-amd64', '7.12.1+deb13-amd64', '7.4.10+deb13-amd64'])
      debian.publish('trixie-backports', version);
    assert.equal(await find('newest'), '7.12.1+deb13-amd64');
  });

  it('is one for the processor that is asked for, with pages of 16 KiB only where the name says so', async () => {
    for (const name of ['7.3.4+deb13-amd64', '7.2.1+deb13-arm64', '7.2.1+deb13-arm64-16k'])
      debian.publish('trixie-backports', name);
    for (const name of ['newest', '7.2']) {
      assert.equal(await find(name, 'arm64'), '7.2.1+deb13-arm64');
      assert.equal(await find(`${name}-16k`, 'arm64'), '7.2.1+deb13-arm64-16k');
    }
    assert.equal(await find('newest'), '7.3.4+deb13-amd64');
    await assert.rejects(find('7.3', 'arm64'), {
      code: 'ERR_DMABUF_VM_KERNEL',
      message:
        /no kernel 7\.3 is available for arm64.*the suites that can be read offer 7\.2; the cache has 7\.2/,
    });
    await assert.rejects(find('7.3-16k'), { message: /no kernel 7\.3-16k is available/ });
  });

  it('is one that is complete: versions half published or half withdrawn do not count', async () => {
    debian.publish('trixie-backports', '7.3.4+deb13-amd64');
    debian.publish('trixie-backports', '7.4.1+deb13-amd64', ['base', 'binary', 'image']);
    debian.publish('trixie-backports', '7.5.1+deb13-amd64', ['base', 'binary', 'modules']);
    assert.equal(await find('newest'), '7.3.4+deb13-amd64');
  });

  it('is the next best where a mirror has lost the files of the best, and says so', async () => {
    debian.publish('trixie-backports', '7.3.4+deb13-amd64');
    debian.publish('trixie-backports', '7.4.1+deb13-amd64');
    debian.loseFiles('7.4.1+deb13-amd64');
    assert.equal(await find('newest'), '7.3.4+deb13-amd64');
    saidThat(/downloading linux-image-7\.4\.1.* failed: /);
  });

  it('comes from the next suite where backports have nothing, and says so', async () => {
    debian.addSuite('trixie-backports');
    debian.publish('stable-security', '6.12.118+deb13-amd64');
    assert.equal(await find('newest'), '6.12.118+deb13-amd64');
    saidThat(/^stable-backports and trixie-backports: no kernel for 'newest' that is complete$/);
  });

  it('stable is of the stable release, old the oldest of the one before', async () => {
    debian.publish('stable-backports', '7.3.4+deb13-amd64');
    debian.publish('stable-security', '6.12.118+deb13-amd64');
    debian.publish('bookworm-security', '6.12.117+deb12-amd64');
    debian.publish('bookworm-security', '6.1.0-56-amd64');
    debian.publish('bookworm-security', '6.1.0-9-amd64');
    assert.equal(await find('stable'), '6.12.118+deb13-amd64');
    assert.equal(await find('old'), '6.1.0-56-amd64');
  });

  it('is the newest also where an alias or a code name is behind', async () => {
    debian.publish('stable-backports', '7.2.11+deb13-amd64');
    debian.publish('trixie-backports', '7.3.4+deb13-amd64');
    debian.publish('stable-security', '7.4.2+deb14-amd64');
    debian.publish('trixie-security', '6.12.118+deb13-amd64');
    assert.equal(await find('newest'), '7.3.4+deb13-amd64');
    assert.equal(await find('stable'), '7.4.2+deb14-amd64');
  });

  it('is looked up once a day', async () => {
    debian.publish('trixie-backports', '7.3.4+deb13-amd64');
    assert.equal(await find('newest'), '7.3.4+deb13-amd64');
    debian.publish('trixie-backports', '7.3.5+deb13-amd64');
    assert.equal(await find('newest'), '7.3.4+deb13-amd64');
    assert.deepEqual(told, []);
    passDay();
    assert.equal(await find('newest'), '7.3.5+deb13-amd64');
  });

  it('stays what it was when the mirror is gone, and says so', async () => {
    debian.publish('stable-security', '6.12.118+deb13-amd64');
    debian.publish('trixie-backports', '7.3.4+deb13-amd64');
    await find('stable');
    await find('newest');
    debian.withdraw();
    passDay();
    assert.equal(await find('stable'), '6.12.118+deb13-amd64');
    saidThat(/^stable: taking kernel 6\.12\.118\+deb13-amd64 from the cache$/);
    rmSync(join(debian.kernels, 'names.json'));
    assert.equal(await find('newest'), '7.3.4+deb13-amd64');
    assert.equal(await find('old'), '6.12.118+deb13-amd64');
  });

  it('that is in the cache and no longer offered as a series is taken from there', async () => {
    debian.publish('trixie-backports', '7.2.12+deb13-amd64');
    await find('newest');
    debian.withdraw('trixie-backports');
    debian.publish('trixie-backports', '7.20.1+deb13-amd64');
    assert.equal(await find('7.2'), '7.2.12+deb13-amd64');
    assert.equal(await find('7.20'), '7.20.1+deb13-amd64');
    assert.equal(await find('7.2.12'), '7.2.12+deb13-amd64');
  });

  it('that is available nowhere is an error, which says what is available', async () => {
    debian.publish('trixie-backports', '7.3.4+deb13-amd64');
    debian.publish('trixie-security', '6.12.118+deb13-amd64');
    await find('7.3');
    await assert.rejects(find('7.2'), ({ code, message }: NodeJS.ErrnoException) => {
      assert.equal(code, 'ERR_DMABUF_VM_KERNEL');
      assert.match(message, /no kernel 7\.2 is available; bookworm-security, .* cannot be read: /);
      assert.match(message, /the suites that can be read offer 6\.12, 7\.3; the cache has 7\.3\.4/);
      return true;
    });
  });

  it('cannot be had without a mirror and a cache: the error says what is missing', async () => {
    debian.addSuite('trixie-backports');
    debian.withdraw();
    await assert.rejects(find('newest'), {
      code: 'ERR_DMABUF_VM_KERNEL',
      message:
        /no kernel for 'newest' is available.*cannot be read: .*cache has none\. Try again.*--kernel PATH/,
    });
  });

  it('is fetched again where only a part of it is in the cache', async () => {
    debian.publish('trixie-backports', '7.3.4+deb13-amd64');
    await find('7.3');
    const image = join(debian.kernels, '7.3.4+deb13-amd64/vmlinuz');
    for (const harm of [rmSync, (path: string) => truncateSync(path, 3000)]) {
      harm(image);
      assert.equal(await find('7.3'), '7.3.4+deb13-amd64');
      assert.equal(statSync(image).size, 4096);
    }
  });

  for (const [what, folder] of [
    ['a file', process.execPath],
    ['below /proc', '/proc'],
    ['a device', '/dev/full'],
  ] as const) {
    it(`cannot be kept in a cache folder that is ${what}: the error says so`, async () => {
      process.env.XDG_CACHE_HOME = folder;
      await assert.rejects(find('newest'), {
        code: 'ERR_DMABUF_VM_STORAGE',
        message: /the cache folder .*\/dmabuf cannot be used: .*Set XDG_CACHE_HOME/,
      });
    });
  }

  it('may be looked up by several at the same moment', async () => {
    debian.publish('trixie-backports', '7.3.4+deb13-amd64');
    const all = await Promise.all([find('newest'), find('newest'), find('7.3')]);
    assert.deepEqual(new Set(all), new Set(['7.3.4+deb13-amd64']));
  });
});

describe('completeKernels', () => {
  it('leaves out variants, names that stand for another version, and what lacks a package', () => {
    const stanzas = [
      'Package: linux-image-6.12-amd64\nDepends: linux-image-6.12.117+deb12-amd64 (= 6.12.117-1)',
      'Package: linux-image-6.12.117+deb12-amd64-unsigned\nDepends: kmod, initramfs-tools (>= 0.120) | dracut',
      'Package: linux-image-6.12.117+deb12-cloud-amd64\nDepends: kmod',
      'Package: linux-image-6.12.117+deb12-rt-amd64\nDepends: kmod',
      'Package: linux-image-6.12.117+deb12-amd64-dbg\nDepends: kmod',
      'Package: linux-image-6.18.12+deb13-amd64\nDepends: kmod, linux-base-6.18.12+deb13-amd64 (= 6.18.12-1)',
      'Package: linux-base\nDepends: debconf',
    ];
    assert.deepEqual(completeKernels(stanzas.join('\n\n'), 'x64'), [
      { version: '6.12.117+deb12-amd64', packages: ['linux-image-6.12.117+deb12-amd64-unsigned'] },
    ]);
  });
});
