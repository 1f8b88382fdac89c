import assert from 'node:assert/strict';
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { allocate, allocateSync, DmaBuf, DmaHeap } from 'dmabuf';
import { openFds, reuse } from '../../support/descriptors.js';
import { rejectsCode, throwsCode } from '../../support/expect.js';
import { kernelTest } from '../../support/kernel-test.js';

const small = new Uint8Array([1, 2, 3, 4]);

/** Everything that a DmaBuf can do with its descriptor. */
const uses: readonly [string, (buffer: DmaBuf) => unknown][] = [
  ['info', (buffer) => buffer.info()],
  ['setName', (buffer) => buffer.setName('a')],
  ['map', (buffer) => buffer.map()],
  ['cpuAccessSync', (buffer) => buffer.cpuAccessSync('read')],
  ['withCpuAccessSync', (buffer) => buffer.withCpuAccessSync('read', () => 1)],
  ['read', (buffer) => buffer.read(small)],
  ['write', (buffer) => buffer.write(small)],
  ['dup', (buffer) => buffer.dup()],
  ['release', (buffer) => buffer.release()],
];

/** Opens an empty file that has no name. */
function openFile(): number {
  const directory = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
  const fd = openSync(join(directory, 'file'), 'w+');
  rmSync(directory, { recursive: true });
  return fd;
}

const fdOfAnotherBuffer = (): number => allocateSync(8192).release();

for (const mapped of [false, true]) {
  /** A buffer, for half of the tests one that has mapped itself before. */
  const makeBuffer = (): DmaBuf => {
    const buffer = allocateSync(4096);
    if (mapped) buffer.cpuAccessSync('read').end();
    return buffer;
  };
  const state = mapped ? 'a mapped buffer' : 'a buffer';

  for (const [name, use] of uses) {
    kernelTest(`${name} of ${state} says EBADF when the descriptor was closed behind it`, () => {
      using buffer = makeBuffer();
      closeSync(buffer.fd);
      const error = throwsCode(() => use(buffer), 'EBADF');
      assert.equal(error.errno, -9);
    });

    kernelTest(`${name} of ${state} says ERR_DMABUF_STALE_FD when the number is another file's`, () => {
      using buffer = makeBuffer();
      const { fd } = buffer;
      reuse(fd, openFile);
      throwsCode(() => use(buffer), 'ERR_DMABUF_STALE_FD');
      // The stranger is as it was.
      assert.equal(fstatSync(fd).size, 0);
      closeSync(fd);
    });
  }

  kernelTest(`close of ${state} leaves a stranger's file usable`, () => {
    const buffer = makeBuffer();
    const { fd } = buffer;
    reuse(fd, openFile);
    buffer.close();
    writeSync(fd, 'still mine');
    const bytes = Buffer.alloc(10);
    readSync(fd, bytes, 0, 10, 0);
    assert.equal(bytes.toString(), 'still mine');
    closeSync(fd);
  });

  kernelTest(`close of ${state} leaves a stranger's buffer usable`, () => {
    const buffer = makeBuffer();
    const { fd } = buffer;
    reuse(fd, fdOfAnotherBuffer);
    buffer.close();
    using stranger = DmaBuf.adopt(fd);
    assert.equal(stranger.size, 8192);
    assert.equal(stranger.write(small), 4);
  });

  kernelTest(`close of ${state} whose descriptor is gone does not throw`, () => {
    const buffer = makeBuffer();
    closeSync(buffer.fd);
    buffer.close();
    assert.equal(buffer.closed, true);
  });
}

// SYNC goes without the check: it can do no harm to another buffer.
const usesThatChange = uses.filter(([name]) => !name.includes('CpuAccess'));
for (const [name, use] of usesThatChange) {
  kernelTest(`${name} says ERR_DMABUF_STALE_FD when the number is another dma-buf's`, () => {
    using buffer = allocateSync(4096);
    const { fd } = buffer;
    reuse(fd, fdOfAnotherBuffer);
    throwsCode(() => use(buffer), 'ERR_DMABUF_STALE_FD');
    using stranger = DmaBuf.adopt(fd);
    assert.equal('name' in stranger.info(), false);
    const bytes = new Uint8Array(4);
    stranger.read(bytes);
    assert.deepEqual([...bytes], [0, 0, 0, 0]);
  });
}

kernelTest('withCpuAccessSync still reports what the callback threw when the descriptor is gone', () => {
  using buffer = allocateSync(4096);
  const failure = new Error('of the callback');
  assert.throws(
    () =>
      buffer.withCpuAccessSync('read', () => {
        closeSync(buffer.fd);
        throw failure;
      }),
    (error) => error === failure,
  );
});

kernelTest('close ends quietly when an access is open and the descriptor is gone', () => {
  const buffer = allocateSync(4096);
  buffer.cpuAccessSync('write');
  closeSync(buffer.fd);
  buffer.close();
  assert.equal(buffer.closed, true);
});

kernelTest('a mapping outlives the descriptor that was closed behind it', () => {
  using buffer = allocateSync(4096);
  using copy = buffer.dup();
  const mapping = buffer.map();
  closeSync(buffer.fd);
  mapping.bytes[5] = 77;
  const bytes = new Uint8Array(1);
  copy.read(bytes, 5);
  assert.equal(bytes[0], 77);
});

const heapUses: readonly [string, (heap: DmaHeap) => unknown][] = [
  ['DmaHeap.allocateSync', (heap) => heap.allocateSync(4096)],
  ['DmaHeap.allocate', (heap) => heap.allocate(4096)],
  ['allocateSync', (heap) => allocateSync(4096, { from: heap })],
  ['allocate', (heap) => allocate(4096, { from: heap })],
];
for (const [name, use] of heapUses) {
  kernelTest(`${name} says EBADF when the heap's descriptor was closed behind it`, async () => {
    using heap = DmaHeap.open('system');
    closeSync(heap.fd);
    await rejectsCode(async () => use(heap), 'EBADF');
  });

  kernelTest(`${name} says ERR_DMABUF_STALE_FD when the heap's number is another file's`, async () => {
    using heap = DmaHeap.open('system');
    const { fd } = heap;
    reuse(fd, openFile);
    await rejectsCode(async () => use(heap), 'ERR_DMABUF_STALE_FD');
    ftruncateSync(fd, 10);
    closeSync(fd);
  });
}

kernelTest("close of a heap leaves a stranger's file open", () => {
  const heap = DmaHeap.open('system');
  const { fd } = heap;
  reuse(fd, openFile);
  heap.close();
  assert.equal(openFds().has(fd), true);
  closeSync(fd);
});
