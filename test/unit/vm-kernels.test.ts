import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { newestFirst } from '../../lib/vm/debian-kernel.js';
import { findKernel, type Kernel } from '../../lib/vm/kernels.js';

const find = (name: string, modulesDir?: string): Promise<Kernel> =>
  findKernel(name, { modulesDir, progress: () => {} });

/** The part of an x86 kernel image that says what it is. */
function kernelImage(version: string): Buffer {
  const image = Buffer.alloc(4096);
  image.write('HdrS', 0x202, 'latin1');
  image.writeUInt16LE(0x400, 0x20e);
  image.write(`${version} (somebody@somewhere) #1 SMP\0`, 0x600, 'latin1');
  return image;
}

describe('findKernel', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf test-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('says what is accepted when it does not know a name', async () => {
    await assert.rejects(find('5.4'), {
      code: 'ERR_DMABUF_VM_KERNEL',
      message: /6\.12, 7\.2.*'host'.*path/s,
    });
  });

  it('takes a folder with the modules in it, and reads the version from the image', async () => {
    writeFileSync(join(folder, 'vmlinuz'), kernelImage('6.99.1-test'));
    mkdirSync(join(folder, 'modules', 'kernel'), { recursive: true });
    assert.deepEqual(await find(folder), {
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
    await assert.rejects(find(image), { message: /is not an x86 kernel image/ });
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
