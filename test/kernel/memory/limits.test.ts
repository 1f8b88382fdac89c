import assert from 'node:assert/strict';
import { allocateSync } from 'dmabuf';
import { hasKernel, kernelTest } from '../../support/kernel-test.js';
import type { NoDescriptorsReport } from '../../support/programs/no-descriptors.js';
import type { UnprivilegedReport } from '../../support/programs/unprivileged.js';
import { runProgram, runProgramAfter } from '../../support/programs.js';

function runUnprivileged(): UnprivilegedReport {
  using buffer = allocateSync(4096);
  const env = { ...process.env, DMABUF_TEST_FD: String(buffer.fd) };
  return runProgram('unprivileged', { uid: 65534, gid: 65534, env });
}

if (hasKernel) {
  const notRoot = process.getuid?.() !== 0 && 'only root can become somebody else';
  const user = notRoot ? (undefined as never) : runUnprivileged();

  kernelTest(
    'a user without access gets EACCES from DmaHeap.open',
    () => {
      const { code, errno, syscall, path } = user.open;
      assert.deepEqual([code, errno, syscall, path], ['EACCES', -13, 'open', '/dev/dma_heap/system']);
    },
    notRoot,
  );

  kernelTest(
    'a user without access is told the udev rule',
    () => assert.match(user.open.message, /SUBSYSTEM=="dma_heap", GROUP="video", MODE="0660"/),
    notRoot,
  );

  kernelTest(
    'a user without access sees the heap in the list, and why it cannot be used',
    () => {
      const heap = user.heaps.find(({ name }) => name === 'system');
      assert.deepEqual(heap, {
        name: 'system',
        path: '/dev/dma_heap/system',
        kind: 'system',
        accessible: false,
        error: 'EACCES',
      });
    },
    notRoot,
  );

  kernelTest(
    'allocate of a user without access says so, with the udev rule',
    () => {
      assert.equal(user.allocate.code, 'ERR_DMABUF_NO_SOURCE');
      assert.equal(user.allocate.attempts?.[0]?.error.code, 'EACCES');
      assert.match(user.allocate.message, /SUBSYSTEM=="dma_heap"/);
    },
    notRoot,
  );

  kernelTest(
    'EACCES does not end a chain',
    () => {
      const codes = user.allocateSync.attempts?.map(({ source, error }) => [source, error.code]);
      assert.deepEqual(codes, [
        ['system', 'EACCES'],
        ['no-such-heap', 'ENOENT'],
      ]);
    },
    notRoot,
  );

  kernelTest(
    "readFdInfo of another user's process says EACCES",
    () => {
      assert.equal(user.readFdInfo.code, 'EACCES');
      assert.match(user.readFdInfo.path ?? '', /^\/proc\/\d+\/fdinfo\/\d+$/);
    },
    notRoot,
  );

  // Node itself needs some twenty.
  const poor = runProgramAfter<NoDescriptorsReport>('ulimit -n 48', 'no-descriptors');

  for (const [call, error] of Object.entries(poor.withNone)) {
    kernelTest(`${call} says EMFILE when there is no descriptor left`, () => {
      assert.deepEqual([error.name, error.code, error.errno], ['DmaBufError', 'EMFILE', -24], error.message);
    });
  }

  for (const [call, error] of Object.entries(poor.withOne)) {
    kernelTest(`${call} says EMFILE when there is one descriptor too few`, () => {
      assert.deepEqual([error.name, error.code], ['DmaBufError', 'EMFILE'], error.message);
    });
  }

  kernelTest('EMFILE comes with the system call and what to do', () => {
    const error = poor.withNone['heap.allocateSync'];
    assert.equal(error?.syscall, 'DMA_HEAP_IOCTL_ALLOC');
    assert.match(error?.message ?? '', /^EMFILE: too many open files, DMA_HEAP_IOCTL_ALLOC\. .*ulimit -n/);
  });

  kernelTest('a failure on the thread pool has the caller in its stack', () => {
    assert.match(poor.withOne['heap.allocate']?.stack ?? '', /callerOfHeapAllocate/);
  });

  kernelTest('allocations that found no descriptor leave none open', () => {
    assert.equal(poor.leftOfOne, 1);
  });

  kernelTest('read of a buffer that nobody else can hold works when there is no descriptor left', () => {
    assert.equal(poor.copied, 16);
  });

  kernelTest('allocating works again when there are descriptors again', () => {
    assert.deepEqual(poor.afterwards, [4096, 8192]);
  });
}
