import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { indexModules, moduleDependencies, moduleName, resolveModules } from '../../lib/vm/modules.js';

/** A 64-bit ELF file that has a `.modinfo` section and nothing else. */
function moduleFile(depends: string[]): Buffer {
  const info = Buffer.from(`license=GPL\0depends=${depends.join(',')}\0name=x\0`);
  const names = Buffer.from('\0.modinfo\0.shstrtab\0');
  const header = Buffer.alloc(64);
  const table = Buffer.alloc(3 * 64);
  header.write('\x7fELF', 'latin1');
  header.writeBigUInt64LE(BigInt(64 + info.length + names.length), 0x28);
  header.writeUInt16LE(64, 0x3a);
  header.writeUInt16LE(3, 0x3c);
  header.writeUInt16LE(2, 0x3e);
  const section = (index: number, name: number, offset: number, size: number): void => {
    table.writeUInt32LE(name, index * 64);
    table.writeBigUInt64LE(BigInt(offset), index * 64 + 0x18);
    table.writeBigUInt64LE(BigInt(size), index * 64 + 0x20);
  };
  section(1, names.indexOf('.modinfo'), 64, info.length);
  section(2, names.indexOf('.shstrtab'), 64 + info.length, names.length);
  return Buffer.concat([header, info, names, table]);
}

const FILES: Record<string, string[]> = {
  vgem: ['drm', 'drm_shmem_helper'],
  drm_shmem_helper: ['drm', 'drm_kms_helper'],
  drm_kms_helper: ['drm'],
  drm: [],
  broken: ['absent'],
};

const index = {
  files: new Map(Object.keys(FILES).map((name) => [name, name])),
  builtIn: new Set(['virtio_pci']),
};

const read = async (path: string): Promise<Buffer> => moduleFile(FILES[path] as string[]);

async function namesOf(wanted: string[], optional = false): Promise<string[]> {
  return (await resolveModules(index, wanted, { read, optional })).map(({ name }) => name);
}

describe('resolveModules', () => {
  it('puts what a module depends on before it, each module once', async () => {
    assert.deepEqual(await namesOf(['vgem', 'drm']), ['drm', 'drm_kms_helper', 'drm_shmem_helper', 'vgem']);
  });

  it('leaves out what is built in', async () => {
    assert.deepEqual(await namesOf(['virtio-pci', 'drm']), ['drm']);
  });

  it('takes a dash for an underscore', async () => {
    assert.deepEqual(await namesOf(['drm-kms-helper']), ['drm', 'drm_kms_helper']);
  });

  it('names a module that does not exist, and similar ones that do', async () => {
    await assert.rejects(namesOf(['helper']), {
      code: 'ERR_DMABUF_VM_MODULE',
      message: /no module helper\. Modules with similar names: drm_kms_helper, drm_shmem_helper\./,
    });
  });

  it('leaves out an optional module that does not exist', async () => {
    assert.deepEqual(await namesOf(['nothing', 'drm'], true), ['drm']);
  });

  it('says who needs a module that is missing', async () => {
    await assert.rejects(namesOf(['broken']), { message: /broken depends on absent/ });
  });

  it('asks for the folder when a kernel has no modules at all', async () => {
    const nothing = { files: new Map<string, string>(), builtIn: new Set<string>() };
    await assert.rejects(resolveModules(nothing, ['vgem'], { read }), { message: /--modules-dir/ });
  });
});

describe('indexModules', () => {
  it('finds modules however they are packed, and what is built in', () => {
    const folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
    try {
      for (const path of [
        'kernel/a/one.ko',
        'kernel/b/two-x.ko.xz',
        'updates/three.ko.zst',
        'kernel/a/one.txt',
      ]) {
        mkdirSync(join(folder, dirname(path)), { recursive: true });
        writeFileSync(join(folder, path), '');
      }
      writeFileSync(join(folder, 'modules.builtin'), 'kernel/drivers/virtio/virtio-pci.ko\n');
      const found = indexModules(folder);
      assert.deepEqual([...found.files.keys()].sort(), ['one', 'three', 'two_x']);
      assert.deepEqual([...found.builtIn], ['virtio_pci']);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('moduleDependencies', () => {
  it('is empty for a module that needs no other', () => {
    assert.deepEqual(moduleDependencies(moduleFile([])), []);
  });

  it('uses the names the kernel shows', () => {
    assert.deepEqual(moduleDependencies(moduleFile(['snd-timer', 'netfs'])), ['snd_timer', 'netfs']);
  });
});

describe('moduleName', () => {
  it('drops folder, packing and dashes', () => {
    assert.equal(moduleName('kernel/net/9p/9pnet-virtio.ko.xz'), '9pnet_virtio');
  });
});
