import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { findConfig, type KernelConfig, parseConfig } from '../../lib/vm/kernel-config.js';
import { checkKernel, lackingByBoot } from '../../lib/vm/kernel-needs.js';
import { kernelImage } from '../support/apt-repository.js';

/** An image with a packed kernel in it, as the header of arch/x86/boot describes it. */
function imageWith(packed: Buffer): Buffer {
  const head = kernelImage('6.99.1-test');
  head.writeUInt32LE(head.length - 4 * 512, 0x248);
  head.writeUInt32LE(packed.length, 0x24c);
  return Buffer.concat([head, packed]);
}

/** A kernel that has its configuration in itself. */
const withConfig = (text: string): Buffer =>
  Buffer.concat([Buffer.from('code IKCFG_ST'), gzipSync(text), Buffer.from('IKCFG_ED more code')]);

const complete = [
  ...[
    'BLK_DEV_INITRD',
    'BINFMT_ELF',
    'BINFMT_SCRIPT',
    'PROC_FS',
    'SYSFS',
    'DEVTMPFS',
    'TMPFS',
    'PCI',
    'TTY',
    'PRINTK',
  ],
  ...[
    'VIRTIO_PCI',
    'VIRTIO_CONSOLE',
    'NET_9P',
    'NET_9P_VIRTIO',
    '9P_FS',
    'OVERLAY_FS',
    'SERIAL_8250',
    'SERIAL_8250_CONSOLE',
  ],
]
  .map((option) => `CONFIG_${option}=y\n`)
  .join('');

describe("a kernel's configuration", () => {
  let folder: string;
  let image: string;
  const find = (modulesDir?: string): Promise<KernelConfig | undefined> =>
    findConfig({ image, release: '6.99.1-test', modulesDir }, '/nowhere/busybox');
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-config-'));
    image = join(folder, 'bzImage');
    writeFileSync(image, kernelImage('6.99.1-test'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('is read from its lines', () => {
    const { values } = parseConfig(
      '# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_9P_FS=m\nCONFIG_C="x y"\n',
      'x',
    );
    assert.deepEqual(Object.fromEntries(values), { B: 'y', '9P_FS': 'm', C: '"x y"' });
  });

  for (const name of ['config', 'config-6.99.1-test']) {
    it(`is found beside it, as ${name}`, async () => {
      writeFileSync(join(folder, name), 'CONFIG_X=y\n');
      writeFileSync(image, imageWith(gzipSync(withConfig('CONFIG_X=n\n'))));
      const config = await find();
      assert.deepEqual([config?.source, config?.values.get('X')], [join(folder, name), 'y']);
    });
  }

  for (const [how, pack] of [
    ['gzip', gzipSync],
    ['nothing', (data: Buffer) => data],
  ] as const) {
    it(`is found in the image itself, packed with ${how}`, async () => {
      writeFileSync(image, imageWith(pack(withConfig('CONFIG_X=y\n'))));
      const config = await find();
      assert.deepEqual([config?.source, config?.values.get('X')], [`${image} (CONFIG_IKCONFIG)`, 'y']);
    });
  }

  it('is found where it was built', async () => {
    const boot = join(folder, 'arch/x86/boot');
    mkdirSync(boot, { recursive: true });
    image = join(boot, 'bzImage');
    writeFileSync(image, kernelImage('6.99.1-test'));
    writeFileSync(join(folder, '.config'), 'CONFIG_X=y\n');
    assert.equal((await find())?.source, join(folder, '.config'));
  });

  it('is unknown where there is none, whatever the image holds', async () => {
    assert.equal(await find(), undefined);
    for (const packed of [
      gzipSync('no configuration'),
      Buffer.from('fd377a585a00', 'hex'),
      Buffer.from([0x1f, 0x8b, 1]),
    ]) {
      writeFileSync(image, imageWith(packed));
      assert.equal(await find(folder), undefined);
    }
  });
});

describe('a kernel of the user', () => {
  const index = (files: readonly string[] = [], builtIn: readonly string[] = []) => ({
    files: new Map(files.map((name) => [name, `/m/${name}.ko`])),
    builtIn: new Set(builtIn),
  });
  const check = (
    config: string | undefined,
    {
      files,
      builtIn,
      network = false,
      told = [],
    }: { files?: string[]; builtIn?: string[]; network?: boolean; told?: string[] },
  ): void =>
    checkKernel(
      { arch: 'x64', image: '/k/bzImage', modulesDir: files === undefined ? undefined : '/m' },
      index(files, builtIn),
      config === undefined ? undefined : parseConfig(config, '/k/config'),
      { network, progress: (message) => told.push(message) },
    );
  const without = (...options: string[]): string =>
    complete.replace(new RegExp(`^CONFIG_(${options.join('|')})=.*\n`, 'gm'), '');

  it('passes with all that a guest needs, built in or as modules', () => {
    check(complete, {});
    check(complete.replaceAll(/(9P_FS|OVERLAY_FS)=y/g, '$1=m'), { files: ['9p', 'overlay'] });
  });

  it('is refused with exactly what its configuration lacks', () => {
    assert.throws(() => check(without('DEVTMPFS', '9P_FS'), {}), {
      code: 'ERR_DMABUF_VM_KERNEL',
      message:
        /the kernel \/k\/bzImage lacks what a guest needs, by \/k\/config:\n {2}CONFIG_DEVTMPFS is not set: \/dev\n {2}CONFIG_9P_FS is not set: this machine's files\nBuild it/,
    });
  });

  it('is refused when a module is missing, or is one that cannot be', () => {
    const modules = complete.replaceAll(/(TMPFS|OVERLAY_FS)=y/g, '$1=m');
    assert.throws(() => check(modules, { files: ['9p'] }), {
      message:
        /CONFIG_DEVTMPFS is a module and must be built in: .*\n.*CONFIG_TMPFS is a module and must be built in: .*\n.*CONFIG_OVERLAY_FS is the module overlay, and it is not in \/m: /,
    });
    assert.throws(() => check(complete.replace('OVERLAY_FS=y', 'OVERLAY_FS=m'), {}), {
      message: /CONFIG_OVERLAY_FS is the module overlay, and there are no modules: /,
    });
  });

  it('needs a network card only for a network', () => {
    assert.throws(() => check(complete, { network: true }), {
      message: /CONFIG_VIRTIO_NET is not set: --network\n/,
    });
  });

  it('is said to be silent without a console on a serial line, and passes', () => {
    const told: string[] = [];
    check(without('SERIAL_8250_CONSOLE'), { told });
    assert.match(told.join('\n'), /no console on a serial line \(CONFIG_SERIAL_8250_CONSOLE\): /);
  });

  it('is refused by the list of what is built in, where there is no configuration', () => {
    const builtIn = ['virtio_pci', 'virtio_console', '9pnet', '9pnet_virtio'];
    check(undefined, { files: ['9p', 'overlay'], builtIn });
    assert.throws(() => check(undefined, { files: ['overlay'], builtIn }), {
      message:
        /by \/m\/modules\.builtin and the modules beside it:\n {2}CONFIG_9P_FS is not set: [^\n]*\nBuild it/,
    });
  });

  it('is tried where nothing tells what it has', () => check(undefined, {}));

  for (const [log, lacking] of [
    [
      '[    3.9] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)',
      /lacks CONFIG_BLK_DEV_INITRD/,
    ],
    ['Failed to execute /init (error -8)\nRun /sbin/init', /CONFIG_BINFMT_SCRIPT or CONFIG_BINFMT_ELF/],
    ['x\ndmabuf vm: KERNEL the kernel lacks CONFIG_X \nreboot: Power down', /^the kernel lacks CONFIG_X$/],
    ['Kernel panic - not syncing: Fatal exception in interrupt', undefined],
    ['', undefined],
  ] as const) {
    it(`${lacking === undefined ? 'does not tell' : 'tells'} what it lacks by: ${log.split('\n')[0]}`, () => {
      const found = lackingByBoot(log);
      if (lacking === undefined) assert.equal(found, undefined);
      else assert.match(found ?? '', lacking);
    });
  }
});
