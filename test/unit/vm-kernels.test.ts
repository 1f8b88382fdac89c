import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { newestFirst } from '../../lib/vm/debian-kernel.js';
import { findKernel, type Kernel } from '../../lib/vm/kernels.js';
import { kernelImage } from '../support/apt-repository.js';

const find = (name: string, modulesDir?: string): Promise<Kernel> =>
  findKernel(name, { modulesDir, progress: () => {} });

describe('findKernel', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf test-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('says what is accepted when it does not know a name', async () => {
    await assert.rejects(find('no-such-name'), {
      code: 'ERR_DMABUF_VM_KERNEL',
      message: /newest, stable, old or a series such as 6\.12.*'host'.*path/s,
    });
  });

  it('takes a folder with the modules in it, and reads the version from the image', async () => {
    writeFileSync(join(folder, 'vmlinuz'), kernelImage('6.99.1-test'));
    mkdirSync(join(folder, 'modules', 'kernel'), { recursive: true });
    assert.deepEqual(await find(folder), {
      arch: 'x64',
      release: '6.99.1-test',
      image: join(folder, 'vmlinuz'),
      modulesDir: join(folder, 'modules'),
    });
  });

  it('takes an image whose modules are where packages put them', async () => {
    mkdirSync(join(folder, 'boot'));
    mkdirSync(join(folder, 'lib/modules/6.99.1-test/kernel'), { recursive: true });
    const image = join(folder, 'boot', 'vmlinuz-6.99.1-test');
    writeFileSync(image, kernelImage('6.99.1-test'));
    assert.equal((await find(image)).modulesDir, join(folder, 'lib/modules/6.99.1-test'));
  });

  it('takes a kernel without modules', async () => {
    const image = join(folder, 'bzImage');
    writeFileSync(image, kernelImage('6.99.1-test'));
    assert.equal((await find(image)).modulesDir, undefined);
  });

  it('takes the modules folder it is given', async () => {
    const image = join(folder, 'bzImage');
    writeFileSync(image, kernelImage('6.99.1-test'));
    assert.equal((await find(image, folder)).modulesDir, folder);
    await assert.rejects(find(image, join(folder, 'no')), { message: /modules folder .* does not exist/ });
  });

  it('refuses a file that is no kernel', async () => {
    const image = join(folder, 'bzImage');
    writeFileSync(image, 'hello');
    await assert.rejects(find(image), { message: /is no kernel image/ });
  });

  it('refuses what is no file without waiting for it', async () => {
    mkdirSync(join(folder, 'vmlinuz'));
    await assert.rejects(find(folder), {
      code: 'ERR_DMABUF_VM_KERNEL',
      message: /vmlinuz is a folder, not a/,
    });
    const fifo = join(folder, 'fifo');
    spawnSync('mkfifo', [fifo]);
    await assert.rejects(find(fifo), {
      code: 'ERR_DMABUF_VM_KERNEL',
      message: /is a FIFO, not a kernel image/,
    });
    await assert.rejects(find('/dev/zero'), { message: /is a device, not a kernel image/ });
  });

  it('says of a kernel that was cut off that it is corrupt', async () => {
    const image = join(folder, 'bzImage');
    writeFileSync(image, kernelImage('6.99.1-test').subarray(0, 2000));
    await assert.rejects(find(image), {
      code: 'ERR_DMABUF_VM_KERNEL',
      message: /is corrupt: it has 2000 of its 4096 bytes/,
    });
  });

  it('takes a kernel for arm64 where that is asked for, and says so where it is not', async () => {
    const version = '6.99.1-arm64';
    const image = join(folder, 'Image');
    writeFileSync(image, kernelImage(version));
    const { arch, release } = await findKernel(image, { arch: 'arm64', progress: () => {} });
    assert.deepEqual({ arch, release }, { arch: 'arm64', release: version });
    await assert.rejects(find(image), {
      code: 'ERR_DMABUF_VM_KERNEL',
      message: /Image is made for arm64, and the guest is to be x64\. The option arch \(--arch\) says/,
    });
    writeFileSync(image, kernelImage(version).subarray(0, 4000));
    await assert.rejects(find(image), { message: /is corrupt: it has 4000 of its 4096 bytes/ });
  });

  it('refuses a folder without a kernel', async () => {
    await assert.rejects(find(folder), { message: /no file 'vmlinuz'/ });
  });
});

describe('newestFirst', () => {
  it('compares versions by number', () => {
    assert.deepEqual(newestFirst(['6.12.9+deb12-amd64', '6.12.117+deb12-amd64', '6.12.88+deb12-amd64']), [
      '6.12.117+deb12-amd64',
      '6.12.88+deb12-amd64',
      '6.12.9+deb12-amd64',
    ]);
  });
});
