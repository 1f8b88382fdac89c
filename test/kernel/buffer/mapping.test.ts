import assert from 'node:assert/strict';
import { allocateSync, DmaBufMapping } from 'dmabuf';
import { throwsCode } from '../../support/expect.js';
import { kernelTest } from '../../support/kernel-test.js';
import { mappings } from '../../support/proc.js';

const page = 4096;

kernelTest('map covers the whole buffer by default', () => {
  using buffer = allocateSync(3 * page);
  const mapping = buffer.map();
  assert.deepEqual([mapping.offset, mapping.length, mapping.bytes.length], [0, 3 * page, 3 * page]);
});

kernelTest('map gives a DmaBufMapping over an ArrayBuffer', () => {
  using buffer = allocateSync(page);
  const mapping = buffer.map();
  assert.ok(mapping instanceof DmaBufMapping);
  assert.ok(mapping.buffer instanceof ArrayBuffer);
  assert.equal(mapping.bytes.buffer, mapping.buffer);
});

kernelTest('map shows what was written into the buffer', () => {
  using buffer = allocateSync(page);
  buffer.write(new Uint8Array([1, 2, 3]), 10);
  assert.deepEqual([...buffer.map().bytes.subarray(9, 14)], [0, 1, 2, 3, 0]);
});

kernelTest('what is written into a mapping is in the buffer', () => {
  using buffer = allocateSync(page);
  buffer.map().bytes.set([1, 2, 3], page - 3);
  const bytes = new Uint8Array(3);
  buffer.read(bytes, page - 3);
  assert.deepEqual([...bytes], [1, 2, 3]);
});

kernelTest('several mappings show the same memory', () => {
  using buffer = allocateSync(2 * page);
  const [first, second] = [buffer.map(), buffer.map()];
  first.bytes[page] = 42;
  assert.equal(second.bytes[page], 42);
});

kernelTest('a mapping and the bytes of CPU access show the same memory', () => {
  using buffer = allocateSync(page);
  const mapping = buffer.map();
  buffer.withCpuAccessSync('write', (bytes) => bytes.fill(9));
  assert.ok(mapping.bytes.every((byte) => byte === 9));
});

kernelTest('offset chooses where the mapping starts', () => {
  using buffer = allocateSync(3 * page);
  buffer.write(new Uint8Array([5]), 2 * page);
  const mapping = buffer.map({ offset: 2 * page });
  assert.deepEqual([mapping.offset, mapping.length, mapping.bytes[0]], [2 * page, page, 5]);
});

kernelTest('length chooses how much is mapped, to the byte', () => {
  using buffer = allocateSync(3 * page);
  const mapping = buffer.map({ offset: page, length: page + 100 });
  assert.deepEqual([mapping.length, mapping.buffer.byteLength], [page + 100, page + 100]);
});

kernelTest('the last byte of the buffer can be reached', () => {
  using buffer = allocateSync(2 * page);
  const mapping = buffer.map({ offset: page, length: page });
  mapping.bytes[page - 1] = 3;
  const bytes = new Uint8Array(1);
  buffer.read(bytes, 2 * page - 1);
  assert.equal(bytes[0], 3);
});

for (const access of ['read', 'write', 'read-write'] as const) {
  kernelTest(`a writable descriptor mapped for ${access} can be read and written`, () => {
    using buffer = allocateSync(page);
    const { bytes } = buffer.map({ access });
    bytes[0] = 1;
    assert.equal(bytes[0], 1);
  });
}

kernelTest('unmap detaches the ArrayBuffer', () => {
  using buffer = allocateSync(page);
  const mapping = buffer.map();
  mapping.unmap();
  assert.deepEqual([mapping.buffer.byteLength, mapping.bytes.length, mapping.closed], [0, 0, true]);
});

kernelTest('unmap lets go of the memory', () => {
  using buffer = allocateSync(page);
  const before = mappings().length;
  const mapping = buffer.map();
  assert.equal(mappings().length, before + 1);
  mapping.unmap();
  assert.equal(mappings().length, before);
});

kernelTest('unmap does nothing the second time', () => {
  using buffer = allocateSync(page);
  const [first, second] = [buffer.map(), buffer.map()];
  first.unmap();
  first.unmap();
  assert.equal(second.bytes.length, page);
});

kernelTest('an unmapped mapping still says what it was', () => {
  using buffer = allocateSync(2 * page);
  const mapping = buffer.map({ offset: page });
  mapping.unmap();
  assert.deepEqual([mapping.offset, mapping.length], [page, page]);
});

kernelTest('using unmaps', () => {
  using buffer = allocateSync(page);
  let bytes: Uint8Array;
  {
    using mapping = buffer.map();
    bytes = mapping.bytes.fill(7);
  }
  assert.deepEqual(new Set(bytes), new Set([0]));
});

kernelTest('unmapping one mapping leaves the others', () => {
  using buffer = allocateSync(page);
  const [first, second] = [buffer.map(), buffer.map()];
  first.bytes[0] = 8;
  first.unmap();
  assert.equal(second.bytes[0], 8);
});

kernelTest('closing the buffer unmaps everything that it mapped', () => {
  const buffer = allocateSync(2 * page);
  const made = [
    buffer.map(),
    buffer.map({ offset: page }),
    buffer.map({ access: 'read', faultOnWrite: true }),
  ];
  const { bytes } = buffer.cpuAccessSync('read-write');
  bytes.fill(7);
  buffer.close();
  assert.deepEqual(
    made.map((mapping) => [mapping.buffer.byteLength, mapping.closed]),
    made.map(() => [0, true]),
  );
  assert.deepEqual(new Set(bytes), new Set([0]));
});

kernelTest('unmap after close does nothing', () => {
  const buffer = allocateSync(page);
  const mapping = buffer.map();
  buffer.close();
  mapping.unmap();
  assert.equal(mapping.closed, true);
});

kernelTest('closing one object leaves the mappings of its duplicate', () => {
  const buffer = allocateSync(page);
  using copy = buffer.dup();
  const mapping = copy.map();
  buffer.write(new Uint8Array([6]));
  buffer.close();
  assert.equal(mapping.bytes[0], 6);
});

kernelTest('a read-only descriptor refuses map with EACCES, and points to read()', () => {
  using buffer = allocateSync(page, { access: 'read' });
  for (const access of ['read', 'write', 'read-write'] as const) {
    const error = throwsCode(() => buffer.map({ access }), 'EACCES', access);
    assert.match(error.message, /read\(\)/);
    assert.deepEqual([error.errno, error.syscall], [-13, 'mmap']);
  }
});

kernelTest('a write-only descriptor refuses map with EACCES', () => {
  using buffer = allocateSync(page, { access: 'write' });
  throwsCode(() => buffer.map(), 'EACCES');
  throwsCode(() => buffer.map({ access: 'read', faultOnWrite: true }), 'EACCES');
});

for (const access of ['read', 'read-write'] as const) {
  kernelTest(`faultOnWrite maps a ${access} descriptor, readable`, () => {
    using buffer = allocateSync(2 * page, { access });
    const mapping = buffer.map({ access: 'read', faultOnWrite: true });
    assert.ok(mapping.bytes.every((byte) => byte === 0));
  });

  kernelTest(`faultOnWrite maps the pages of a ${access} descriptor read-only`, () => {
    using buffer = allocateSync(page, { access });
    const before = new Set(mappings());
    buffer.map({ access: 'read', faultOnWrite: true });
    const [line = ''] = mappings().filter((mapping) => !before.has(mapping));
    assert.match(line, / r--s /);
  });
}

kernelTest('faultOnWrite false is the same as leaving it out', () => {
  using buffer = allocateSync(page);
  const { bytes } = buffer.map({ access: 'read', faultOnWrite: false });
  bytes[0] = 1;
  assert.equal(bytes[0], 1);
});

kernelTest('a mapping shows up in /proc/self/maps under the name', () => {
  using buffer = allocateSync(page, { name: 'seen-in-maps' });
  buffer.map();
  assert.equal(mappings().filter((line) => line.endsWith('/dmabuf:seen-in-maps')).length, 1);
});
