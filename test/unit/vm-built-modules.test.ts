// The packages are made up: what stands for the kernel's makefile says what was built, and fails as it is told. That Debian's
// own compile, and load, is for test/vm/modules.test.ts to show.

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { withBuiltModules } from '../../lib/vm/built-modules.js';
import type { ModuleIndex } from '../../lib/vm/modules.js';
import { AptRepository } from '../support/apt-repository.js';
import { publishModuleHeaders, publishModuleSource } from '../support/module-packages.js';

const RELEASE = '7.99.1+deb13-amd64';
const SUITE = 'trixie-backports';

const NOTHING: ModuleIndex = { files: new Map(), builtIn: new Set() };

describe('modules that a kernel lacks', () => {
  let debian: AptRepository;
  let folder: string;
  let before: NodeJS.ProcessEnv;
  let told: string[];

  beforeEach(() => {
    before = { ...process.env };
    debian = new AptRepository();
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-modules-'));
    told = [];
    Object.assign(process.env, debian.env);
  });
  afterEach(() => {
    for (const name of Object.keys(debian.env)) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
    rmSync(folder, { recursive: true });
    debian[Symbol.dispose]();
  });

  const publishHeaders = (recipe: readonly string[] = ['touch $@']): void => {
    publishModuleHeaders(debian, SUITE, RELEASE, [`echo $* >>${join(folder, 'made')}`, ...recipe]);
  };
  const publishSource = (version?: string): void => {
    publishModuleSource(debian, SUITE, version);
  };

  /** A kernel as in the cache, built with these options. */
  function kernel(options = 'CONFIG_DMA_CMA=y\nCONFIG_DMABUF_HEAPS=y', release = RELEASE) {
    writeFileSync(join(folder, 'config'), `#\n${options}\n`);
    return { arch: 'x64' as const, release, image: join(folder, 'vmlinuz'), modulesDir: undefined };
  }

  async function provide(wanted: string[], index = NOTHING, on = kernel()): Promise<Map<string, string>> {
    const progress = (message: string) => told.push(message);
    const { files } = await withBuiltModules(index, wanted, on, { progress });
    return new Map(files);
  }

  const made = (): string[] => {
    const path = join(folder, 'made');
    return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n').sort() : [];
  };

  const ALL = ['cma_heap', 'dmabuf_test', 'sw_sync', 'v4l2_mem2mem', 'vicodec', 'vim2m', 'vkms'];

  it('are built, each once, and are in the cache the next time, also for others', async () => {
    publishHeaders();
    publishSource();
    const files = await provide(['sw-sync', 'vim2m']);
    assert.deepEqual([...files.keys()].sort(), ALL);
    for (const path of files.values()) assert.ok(existsSync(path), path);
    assert.equal(made().length, ALL.length);
    debian.withdraw();
    assert.deepEqual(await provide(['cma_heap', 'sw_sync']), files);
  });

  it('are built once when several ask at the same moment', async () => {
    publishHeaders();
    publishSource();
    const [one, two] = await Promise.all([provide(['vkms']), provide(['sw_sync'])]);
    assert.deepEqual(one, two);
    assert.equal(made().length, ALL.length);
  });

  it('are not those that it has, which stay its own', async () => {
    const own = { files: new Map([['vkms', '/its/vkms.ko']]), builtIn: new Set(['sw_sync']) };
    assert.deepEqual(await provide(['vkms', 'sw_sync', 'no_such'], own), own.files);
    assert.deepEqual(told, []);
    publishHeaders();
    publishSource();
    assert.equal((await provide(['vim2m', 'vkms'], own)).get('vkms'), '/its/vkms.ko');
  });

  it('are listed where somebody asks for one that does not exist', async () => {
    const can = async (on: ReturnType<typeof kernel>) =>
      (await withBuiltModules(NOTHING, ['no_such'], on, { progress: () => {} })).buildable;
    assert.deepEqual([...((await can(kernel())) ?? [])].sort(), ALL);
    assert.ok(!(await can(kernel('# none')))?.includes('cma_heap'));
    assert.deepEqual(await can(kernel('CONFIG_DMA_CMA=y', '7.3.4-mine')), []);
  });

  it('are the heaps where it was built without them; where it was not, they are built in', async () => {
    const without = kernel('CONFIG_DMA_CMA=y');
    publishHeaders();
    publishSource();
    assert.ok((await provide(['system_heap'], NOTHING, without)).has('dma_heap'));
    assert.deepEqual([...(await provide(['cma_heap'], NOTHING, without)).keys()].sort(), [
      ...[...ALL, 'dma_heap', 'system_heap'].sort(),
    ]);
    debian.withdraw();
    const { builtIn } = await withBuiltModules(NOTHING, ['system_heap'], kernel(), { progress: () => {} });
    assert.ok(builtIn.has('system_heap'));
  });

  it('are not built again as long as another that nobody has asked for does not compile', async () => {
    publishHeaders(['test $* != vkms', 'touch $@']);
    publishSource();
    await provide(['sw_sync']);
    assert.ok(told.some((message) => /^vkms could not be built; all that was said is in /.test(message)));
    await provide(['sw_sync', 'dmabuf_test']);
    assert.equal(made().length, ALL.length);
  });

  it('that do not compile are an error with the last words of the compiler, and where all of them are', async () => {
    publishHeaders(['touch $@', "echo 'sw_sync.c:7: error: no such thing' >&2", 'exit 1']);
    publishSource();
    await assert.rejects(provide(['sw_sync']), ({ code, message }: NodeJS.ErrnoException) => {
      assert.equal(code, 'ERR_DMABUF_VM_BUILD');
      assert.match(message, /sw_sync could not be built; .*\n.*\| sw_sync\.c:7: error: no such thing\n/);
      const log = /is in (\S+\.log):/.exec(message)?.[1] ?? '';
      assert.match(readFileSync(log, 'utf8'), /no such thing/);
      return true;
    });
  });

  it('that were built by half are never used: they are built again', async () => {
    publishHeaders(['echo half >$@', 'exit 1']);
    publishSource();
    await assert.rejects(provide(['vim2m']), { code: 'ERR_DMABUF_VM_BUILD' });
    publishHeaders(['echo whole >$@']);
    const path = (await provide(['vim2m'])).get('vim2m') ?? '';
    assert.equal(readFileSync(path, 'utf8'), 'whole\n');
  });

  it('are built from another version of the source, and a line says so, where that is all there is', async () => {
    publishHeaders();
    publishSource('7.99.2-1');
    await provide(['sw_sync']);
    assert.ok(told.includes("taking the modules' source from linux-source-7.99 7.99.2-1, not 7.99.1-1"));
  });

  it('cannot be built without the headers or the source: the error names the package', async () => {
    debian.addSuite(SUITE);
    await assert.rejects(provide(['sw_sync']), {
      code: 'ERR_DMABUF_VM_BUILD',
      message: new RegExp(`package linux-headers-${RELEASE.replaceAll('+', '\\+')}, which no suite has; `),
    });
    publishHeaders();
    await assert.rejects(provide(['sw_sync']), {
      code: 'ERR_DMABUF_VM_BUILD',
      message: /from the package linux-source-7\.99, which the suite with its headers lacks/,
    });
  });

  it("cannot be built for kernels that are not Debian's, or lack what the module needs", async () => {
    await assert.rejects(provide(['sw_sync'], NOTHING, kernel('', '7.3.4-mine')), {
      code: 'ERR_DMABUF_VM_MODULE',
      message:
        /no module sw_sync, and modules can be built for Debian's kernels only, which 7\.3\.4-mine is not/,
    });
    await assert.rejects(provide(['cma_heap'], NOTHING, kernel('# CONFIG_DMA_CMA is not set')), {
      code: 'ERR_DMABUF_VM_MODULE',
      message: /no module cma_heap, and none can be built for it: .* was built without CONFIG_DMA_CMA/,
    });
  });
});
