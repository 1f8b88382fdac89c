import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fstatSync } from 'node:fs';
import { allocateSync, DmaBuf, DmaHeap } from 'dmabuf';
import { readFdInfo } from 'dmabuf/inspect';
import {
  closeOnExec,
  flagsOf,
  inheritedFd,
  leavesNothing,
  openAt,
  openFds,
  openNull,
} from '../../support/descriptors.js';
import { until } from '../../support/event-loop.js';
import { throwsCode } from '../../support/expect.js';
import { hasKernel, kernelTest } from '../../support/kernel-test.js';
import type { InheritsReport } from '../../support/programs/inherits.js';
import { runProgram } from '../../support/programs.js';

const isOpen = (fd: number): boolean => openFds().has(fd);

kernelTest('isDmaBuf is true for a dma-buf', () => {
  using buffer = allocateSync(4096);
  assert.equal(DmaBuf.isDmaBuf(buffer.fd), true);
});

kernelTest('isDmaBuf is false for a heap', () => {
  using heap = DmaHeap.open('system');
  assert.equal(DmaBuf.isDmaBuf(heap.fd), false);
});

kernelTest('isDmaBuf has no side effect', () => {
  using buffer = allocateSync(4096);
  const before = buffer.info();
  leavesNothing(() => DmaBuf.isDmaBuf(buffer.fd));
  assert.deepEqual(buffer.info(), before);
});

kernelTest('readFdInfo finds no dma-buf in a heap', () => {
  using heap = DmaHeap.open('system');
  assert.equal(readFdInfo('self', heap.fd), undefined);
});

kernelTest('size and inode are those of fstat', () => {
  using buffer = allocateSync(12_345);
  const { size, ino } = fstatSync(buffer.fd);
  assert.deepEqual([buffer.size, buffer.inode], [size, ino]);
});

kernelTest('two buffers have different inodes', () => {
  using first = allocateSync(4096);
  using second = allocateSync(4096);
  assert.notEqual(first.inode, second.inode);
});

kernelTest('info has what the kernel says', () => {
  using buffer = allocateSync(8192, { name: 'frame' });
  assert.deepEqual(buffer.info(), {
    inode: buffer.inode,
    size: 8192,
    exporter: 'system',
    name: 'frame',
    references: 1,
    flags: closeOnExec | 2,
  });
});

kernelTest('info counts references as they come and go', () => {
  using buffer = allocateSync(4096);
  const counts = [buffer.info().references];
  const copy = buffer.dup();
  const mapping = buffer.map();
  counts.push(buffer.info().references);
  copy.close();
  mapping.unmap();
  counts.push(buffer.info().references);
  // A duplicate shares the open file, which counts once; a mapping holds a reference of its own.
  assert.deepEqual(counts, [1, 3, 1]);
});

const copies: readonly [string, (buffer: DmaBuf) => DmaBuf][] = [
  ['import', (buffer) => DmaBuf.import(buffer.fd)],
  ['dup', (buffer) => buffer.dup()],
];
for (const [name, copyOf] of copies) {
  kernelTest(`${name} gives another descriptor of the same buffer`, () => {
    using buffer = allocateSync(8192);
    using copy = copyOf(buffer);
    assert.notEqual(copy.fd, buffer.fd);
    assert.deepEqual([copy.inode, copy.size], [buffer.inode, buffer.size]);
  });

  kernelTest(`${name} shares the memory`, () => {
    using buffer = allocateSync(4096);
    using copy = copyOf(buffer);
    buffer.write(new Uint8Array([1, 2, 3]), 100);
    const bytes = new Uint8Array(3);
    copy.read(bytes, 100);
    assert.deepEqual([...bytes], [1, 2, 3]);
  });

  kernelTest(`${name}: closing the original leaves the copy`, () => {
    const buffer = allocateSync(4096);
    buffer.write(new Uint8Array([7]));
    using copy = copyOf(buffer);
    buffer.close();
    const bytes = new Uint8Array(1);
    copy.read(bytes);
    assert.equal(bytes[0], 7);
  });

  kernelTest(`${name}: closing the copy leaves the original`, () => {
    using buffer = allocateSync(4096);
    copyOf(buffer).close();
    assert.equal(buffer.info().references, 1);
  });

  kernelTest(`${name} of a read-only descriptor is read-only`, () => {
    using buffer = allocateSync(4096, { access: 'read' });
    using copy = copyOf(buffer);
    assert.equal(copy.info().flags & 3, 0);
  });
}

kernelTest('dup keeps the source, import does not know it', () => {
  using buffer = allocateSync(4096);
  using copy = buffer.dup();
  using imported = DmaBuf.import(buffer.fd);
  assert.deepEqual([copy.source, imported.source], ['system', undefined]);
});

kernelTest('adopt takes over the very descriptor', () => {
  const fd = allocateSync(4096).release();
  using buffer = DmaBuf.adopt(fd);
  assert.equal(buffer.fd, fd);
});

kernelTest('an adopted descriptor is closed with its object', async () => {
  const fd = allocateSync(4096).release();
  DmaBuf.adopt(fd).close();
  await until(() => !isOpen(fd)); // by a thread: others may hold the file
});

kernelTest('an imported descriptor stays open', () => {
  const fd = allocateSync(4096).release();
  DmaBuf.import(fd).close();
  assert.equal(isOpen(fd), true);
  closeSync(fd);
});

kernelTest('release gives the descriptor away, open', () => {
  const buffer = allocateSync(4096);
  const { fd, inode } = buffer;
  assert.equal(buffer.release(), fd);
  assert.equal(fstatSync(fd).ino, inode);
  closeSync(fd);
});

kernelTest('release closes the object', () => {
  const buffer = allocateSync(4096);
  const fd = buffer.release();
  assert.deepEqual([buffer.closed, buffer.fd], [true, -1]);
  closeSync(fd);
});

kernelTest('close after release leaves the descriptor open', () => {
  const buffer = allocateSync(4096);
  const fd = buffer.release();
  buffer.close();
  assert.equal(isOpen(fd), true);
  closeSync(fd);
});

kernelTest('release unmaps', () => {
  const buffer = allocateSync(4096);
  const mapping = buffer.map();
  closeSync(buffer.release());
  assert.deepEqual([mapping.buffer.byteLength, mapping.closed], [0, true]);
});

kernelTest('close closes the descriptor', () => {
  const buffer = allocateSync(4096);
  const { fd } = buffer;
  buffer.close();
  assert.equal(isOpen(fd), false);
});

kernelTest('a closed buffer has fd -1', () => {
  const buffer = allocateSync(4096);
  buffer.close();
  assert.deepEqual([buffer.closed, buffer.fd], [true, -1]);
});

kernelTest('a closed buffer still knows its size and inode', () => {
  const buffer = allocateSync(5000);
  const { inode } = buffer;
  buffer.close();
  assert.deepEqual([buffer.size, buffer.inode], [8192, inode]);
});

kernelTest('closing twice closes no stranger', () => {
  const buffer = allocateSync(4096);
  const { fd } = buffer;
  buffer.close();
  openAt(fd, openNull);
  buffer.close();
  assert.equal(isOpen(fd), true);
  closeSync(fd);
});

kernelTest('using closes the buffer', () => {
  let fd: number;
  {
    using buffer = allocateSync(4096);
    fd = buffer.fd;
  }
  assert.equal(isOpen(fd), false);
});

kernelTest('using closes the heap', () => {
  let fd: number;
  {
    using heap = DmaHeap.open('system');
    fd = heap.fd;
  }
  assert.equal(isOpen(fd), false);
});

kernelTest('a closed heap has fd -1', () => {
  const heap = DmaHeap.open('system');
  heap.close();
  heap.close();
  assert.deepEqual([heap.closed, heap.fd], [true, -1]);
});

const made: readonly [string, () => { fd: number; close(): void }][] = [
  ['DmaHeap.open', () => DmaHeap.open('system')],
  ['allocateSync', () => allocateSync(4096)],
  ['allocateSync with access read', () => allocateSync(4096, { access: 'read' })],
  [
    'import',
    () => {
      using buffer = allocateSync(4096);
      return DmaBuf.import(buffer.fd);
    },
  ],
  [
    'dup',
    () => {
      using buffer = allocateSync(4096);
      return buffer.dup();
    },
  ],
];
for (const [name, make] of made) {
  kernelTest(`the descriptor of ${name} is close-on-exec`, () => {
    const object = make();
    assert.ok(flagsOf(object.fd) & closeOnExec);
    object.close();
  });
}

kernelTest('the descriptor of an asynchronous allocation is close-on-exec', async () => {
  using heap = DmaHeap.open('system');
  using buffer = await heap.allocate(4096);
  assert.ok(flagsOf(buffer.fd) & closeOnExec);
});

kernelTest('a child process inherits neither buffers nor heaps', () => {
  using heap = DmaHeap.open('system');
  using _buffer = heap.allocateSync(4096);
  const list = execFileSync('ls', ['-l', '/proc/self/fd'], { encoding: 'latin1' });
  assert.doesNotMatch(list, /dmabuf|dma_heap/);
});

if (hasKernel) {
  // One child for all that is to be seen in it.
  const buffer = allocateSync(4096);
  buffer.write(Buffer.from('hello'));
  const { inode } = buffer;
  const stdio = Array.from({ length: inheritedFd }, (_, fd) => (fd === 1 || fd === 2 ? 'pipe' : 'ignore'));
  const child = runProgram<InheritsReport>('inherits', { stdio: [...stdio, buffer.fd] });
  buffer.close();

  kernelTest('a child that was given the buffer sees the same one', () => {
    assert.deepEqual([child.inode, child.text], [inode, 'hello']);
  });

  kernelTest('import leaves the flags of an inherited descriptor, and makes a close-on-exec one', () => {
    assert.deepEqual([child.inheritedFlag, child.importedFlag, child.afterImport], [false, true, false]);
  });

  kernelTest('adopt makes an inherited descriptor close-on-exec', () => {
    assert.deepEqual([child.adoptedFd, child.adoptedFlag], [inheritedFd, true]);
  });

  kernelTest('release leaves the descriptor close-on-exec', () => {
    assert.equal(child.releasedFlag, true);
  });

  kernelTest('adopt and close work in the child too', () => {
    assert.equal(child.afterClose, false);
  });
}

kernelTest('readFdInfo reads the descriptor of another process', async () => {
  using buffer = allocateSync(4096, { name: 'shared' });
  const child = spawn('cat', [], { stdio: ['pipe', 'ignore', 'ignore', buffer.fd] });
  await once(child, 'spawn');
  const info = readFdInfo(child.pid as number, 3);
  child.stdin?.end();
  await once(child, 'exit');
  assert.deepEqual([info?.inode, info?.name, info?.size], [buffer.inode, 'shared', 4096]);
});

kernelTest('adopt refuses what is no dma-buf, and leaves the heap open', () => {
  using heap = DmaHeap.open('system');
  throwsCode(() => DmaBuf.adopt(heap.fd), 'ERR_DMABUF_NOT_DMABUF');
  heap.allocateSync(4096).close();
});
