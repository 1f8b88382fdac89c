// A kernel of the user's that lacks something: what is missing is said by its files, and where they do not tell, by its boot.

import assert from 'node:assert/strict';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { findKernel, type Kernel } from '../../lib/vm/kernels.js';
import { indexModules } from '../../lib/vm/modules.js';
import { capture } from './capture.js';

describe("a kernel of the user's", { concurrency: 2 }, () => {
  const base = mkdtempSync(join(tmpdir(), 'dmabuf-own-kernel-'));
  let debian: Kernel;
  before(async () => {
    debian = await findKernel('stable', { progress: () => {} });
  });
  after(() => rmSync(base, { recursive: true }));

  /** Debian's kernel with some of its modules, and nothing that says what it has built in. */
  function kernelWith(name: string, hasModule: (module: string) => boolean): string {
    const folder = join(base, name);
    mkdirSync(join(folder, 'modules/kernel'), { recursive: true });
    copyFileSync(debian.image, join(folder, 'vmlinuz'));
    for (const [module, path] of indexModules(debian.modulesDir).files) {
      if (hasModule(module))
        symlinkSync(path, join(folder, 'modules/kernel', path.slice(path.lastIndexOf('/') + 1)));
    }
    return folder;
  }

  it('runs the command when it has all that a guest needs', async () => {
    const kernel = kernelWith('whole', () => true);
    copyFileSync(join(dirname(debian.image), 'config'), join(kernel, 'config'));
    const { exitCode } = await capture({ command: ['true'], kernel });
    assert.equal(exitCode, 0);
  });

  it('is not booted when its configuration lacks something', async () => {
    const kernel = kernelWith('configured', (module) => module !== 'overlay');
    const config = readFileSync(join(dirname(debian.image), 'config'), 'utf8');
    writeFileSync(
      join(kernel, 'config'),
      config.replace(/^CONFIG_DEVTMPFS=y$/m, '# CONFIG_DEVTMPFS is not set'),
    );
    const told: string[] = [];
    const run = capture({ command: ['true'], kernel, progress: (message) => told.push(message) });
    await assert.rejects(run, {
      code: 'ERR_DMABUF_VM_KERNEL',
      message:
        /by .*\/config:\n {2}CONFIG_DEVTMPFS is not set: \/dev\n {2}CONFIG_OVERLAY_FS is the module overlay, and it is not in .*\nBuild it/,
    });
    assert.deepEqual(told, []);
  });

  it('says by its boot what it lacks, where there is no configuration', async () => {
    const kernel = kernelWith('unknown', (module) => module !== 'overlay' && module !== '9p');
    await assert.rejects(capture({ command: ['true'], kernel }), {
      code: 'ERR_DMABUF_VM_KERNEL',
      message: /the kernel lacks what a guest needs: CONFIG_9P_FS, CONFIG_OVERLAY_FS, /,
    });
  });

  for (const [what, call, message] of [
    ['unpacks no initramfs', 'populate_rootfs', /it lacks CONFIG_BLK_DEV_INITRD/],
    [
      'has no port to say it through',
      'virtio_console_init',
      /shows no virtio ports; it lacks CONFIG_VIRTIO_CONSOLE/,
    ],
  ] as const) {
    it(`says so by its boot, once, when it ${what}`, async () => {
      const told: string[] = [];
      const run = capture({
        command: ['true'],
        kernel: 'stable',
        kernelArguments: [`initcall_blacklist=${call}`],
        progress: (text) => told.push(text),
      });
      await assert.rejects(run, { code: 'ERR_DMABUF_VM_KERNEL', message });
      assert.equal(told.filter((text) => text.includes('again')).length, 0);
    });
  }
});
