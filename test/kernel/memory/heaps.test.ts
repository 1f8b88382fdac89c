import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { DmaHeap, type HeapInfo } from 'dmabuf';
import { leavesNothing } from '../../support/descriptors.js';
import { hasKernel, kernelTest } from '../../support/kernel-test.js';
import type { HeapDirectoryReport } from '../../support/programs/heap-directory.js';
import { runProgramInNamespace } from '../../support/programs.js';

kernelTest('list has the system heap', () => {
  const heap = leavesNothing(() => DmaHeap.list()).find(({ name }) => name === 'system');
  assert.deepEqual(heap, { name: 'system', path: '/dev/dma_heap/system', kind: 'system', accessible: true });
});

for (const [what, heap] of [
  ['a name', 'system'],
  ['a path', '/dev/dma_heap/system'],
  ['an indirect path', '/dev/../dev/dma_heap/./system'],
] as const) {
  kernelTest(`open takes ${what}`, () => {
    using opened = DmaHeap.open(heap);
    assert.deepEqual([opened.name, opened.path], ['system', '/dev/dma_heap/system']);
  });
}

kernelTest('a heap has its own descriptor', () => {
  using first = DmaHeap.open('system');
  using second = DmaHeap.open('system');
  assert.notEqual(first.fd, second.fd);
});

kernelTest('closing a heap leaves no descriptor', () => {
  leavesNothing(() => DmaHeap.open('system').close());
});

function runWithOwnDirectory(): HeapDirectoryReport {
  const { rdev } = statSync('/dev/dma_heap/system');
  // As the C library's major() and minor() have it.
  const major = (rdev >> 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >> 12) & 0xfff00);
  const setup = `mount -t tmpfs tmpfs /dev/dma_heap; export DMABUF_TEST_DEVICE='${major} ${minor}'`;
  return runProgramInNamespace(setup, 'heap-directory');
}

if (hasKernel) {
  const notRoot = process.getuid?.() !== 0 && 'only root can make device nodes';
  const seen = notRoot ? (undefined as never) : runWithOwnDirectory();
  const namespaceTest = (name: string, body: () => void): void => kernelTest(name, body, notRoot);

  namespaceTest('list is empty where the folder is', () => {
    assert.deepEqual(seen.emptyList, []);
  });

  namespaceTest('open says that there is no heap at all', () => {
    assert.equal(seen.openInEmpty.code, 'ENOENT');
    assert.match(seen.openInEmpty.message, /There is no heap here/);
  });

  namespaceTest('open of an unknown heap lists those that exist', () => {
    const { code, path, message } = seen.unknownName;
    assert.deepEqual([code, path], ['ENOENT', '/dev/dma_heap/camera']);
    assert.match(message, /Heaps here: system\./);
  });

  const heap = (name: string, kind: string, more: object = {}): object => ({
    name,
    path: `/dev/dma_heap/${name}`,
    kind,
    accessible: true,
    ...more,
  });
  namespaceTest('list tells the kinds, in the order of the names, and links under their heap', () => {
    assert.deepEqual(seen.list, [
      heap('camera', 'unknown'),
      heap('default_cma_region', 'cma', { aliases: ['linux,cma', 'vidbuf_cached'] }),
      heap('protected,secure-video', 'protected'),
      heap('system', 'system'),
      heap('system-uncached', 'system'),
      heap('system_cc_shared', 'shared'),
    ]);
  });

  namespaceTest('list has the default contiguous region once, by the name that may be used', () => {
    const name = 'reserved';
    assert.deepEqual(seen.olderAlone, [heap(name, 'cma', { aliases: ['default_cma_region'] })]);
    assert.equal(seen.olderAloneByAlias, name);
  });

  namespaceTest('list keeps regions apart where nobody knows which has two names', () => {
    assert.deepEqual(
      seen.severalRegions,
      ['default_cma_region', 'linux,cma', 'reserved'].map((name) => heap(name, 'cma')),
    );
  });

  namespaceTest('the alias cma finds the older name', () => {
    assert.deepEqual(seen.olderCma, { name: 'linux,cma', path: '/dev/dma_heap/linux,cma', size: 4096 });
  });

  namespaceTest('the alias cma prefers the newer name', () => {
    assert.equal(seen.cma.name, 'default_cma_region');
  });

  namespaceTest("the alias cma finds a device-tree region's heap", () => {
    assert.equal(seen.deviceTreeCma.name, 'linux,cma@3c000000');
  });

  namespaceTest('the alias cma says ENOENT where no heap is contiguous', () => {
    assert.deepEqual([seen.noCma.code, seen.noCma.path], ['ENOENT', '/dev/dma_heap/cma']);
  });

  namespaceTest('a symbolic link opens the heap that it names', () => {
    assert.deepEqual(seen.link, { name: 'linux,cma', path: '/dev/dma_heap/linux,cma', size: 4096 });
  });

  namespaceTest('the path of a symbolic link opens the heap that it names', () => {
    assert.deepEqual(seen.linkByPath, seen.link);
  });

  namespaceTest('a buffer says which heap served, not which link', () => {
    assert.equal(seen.chainSource, 'linux,cma');
  });

  namespaceTest('a file in the folder that is no device is refused', () => {
    assert.deepEqual([seen.notADevice.code, seen.notADevice.path], ['ENOTTY', '/dev/dma_heap/file']);
  });

  namespaceTest('a node without a driver is refused with its path', () => {
    assert.deepEqual([seen.noSuchDevice.code, seen.noSuchDevice.path], ['ENXIO', '/dev/dma_heap/gone']);
  });

  namespaceTest('a dangling link is refused like a missing heap', () => {
    assert.equal(seen.danglingLink.code, 'ENOENT');
  });

  namespaceTest('a dangling link is in the list, with the reason', () => {
    const { accessible, error } = seen.danglingInList as HeapInfo;
    assert.deepEqual([accessible, error], [false, 'ENOENT']);
  });

  namespaceTest('list says EACCES for a heap that may not be opened', () => {
    assert.deepEqual(seen.inaccessible, [heap('system', 'system', { accessible: false, error: 'EACCES' })]);
  });

  namespaceTest(
    'contiguous memory is not guarded by what is free of it: the kernel answers ENOMEM by itself',
    () => {
      assert.deepEqual([seen.contiguousGuard, seen.uncheckedGuard], [{ size: 4096 }, { size: 4096 }]);
    },
  );
}
