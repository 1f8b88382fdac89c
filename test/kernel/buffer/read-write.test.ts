import assert from 'node:assert/strict';
import { allocateSync, type DmaBuf } from 'dmabuf';
import { contents } from '../../support/buffers.js';
import { throwsCode } from '../../support/expect.js';
import { kernelTest } from '../../support/kernel-test.js';

const size = 8192;

/** Byte `index` of the pattern that the tests fill buffers with; no two pages are alike. */
const pattern = (index: number): number => (index * 7 + (index >> 8)) & 0xff || 1;

function patterned(access: 'read-write' = 'read-write'): DmaBuf {
  const buffer = allocateSync(size, { access });
  buffer.write(Uint8Array.from({ length: size }, (_, index) => pattern(index)));
  return buffer;
}

const expected = (start: number, length: number): number[] =>
  Array.from({ length }, (_, index) => pattern(start + index));

kernelTest('what was written is read back, every byte', () => {
  using buffer = patterned();
  assert.deepEqual([...contents(buffer)], expected(0, size));
});

// position, bytes asked for, bytes copied
const reads: readonly [string, number, number, number][] = [
  ['at the start', 0, 16, 16],
  ['in the middle', 1000, 16, 16],
  ['across a page', 4090, 16, 16],
  ['one byte', 4095, 1, 1],
  ['exactly to the end', size - 16, 16, 16],
  ['past the end', size - 8, 16, 8],
  ['the last byte', size - 1, 16, 1],
  ['at the end', size, 16, 0],
  ['beyond the end', size + 1, 16, 0],
  ['far beyond the end', Number.MAX_SAFE_INTEGER, 16, 0],
  ['nothing', 0, 0, 0],
  ['nothing at the end', size, 0, 0],
  ['more than there is', 0, 2 * size, size],
];
for (const [where, position, length, copied] of reads) {
  kernelTest(`read ${where} copies ${copied} bytes of ${length}`, () => {
    using buffer = patterned();
    const target = new Uint8Array(length);
    assert.equal(buffer.read(target, position), copied);
    assert.deepEqual([...target.subarray(0, copied)], expected(position, copied));
    assert.ok(
      target.subarray(copied).every((byte) => byte === 0),
      'the rest is as it was',
    );
  });
}

const writes: readonly [string, number, number][] = [
  ['at the start', 0, 16],
  ['in the middle', 1000, 16],
  ['across a page', 4090, 16],
  ['of one byte', 4095, 1],
  ['exactly to the end', size - 16, 16],
  ['of the last byte', size - 1, 1],
  ['of nothing', 0, 0],
  ['of nothing at the end', size, 0],
  ['of everything', 0, size],
];
for (const [where, position, length] of writes) {
  kernelTest(`write ${where} changes those bytes and no others`, () => {
    using buffer = patterned();
    const whole = contents(buffer);
    const source = new Uint8Array(length).fill(0xee);
    assert.equal(buffer.write(source, position), length);
    whole.set(source, position);
    assert.deepEqual(contents(buffer), whole);
  });
}

const overruns: readonly [string, number, number][] = [
  ['one byte too far', size - 15, 16],
  ['at the end', size, 1],
  ['beyond the end', size + 1, 0],
  ['far beyond the end', Number.MAX_SAFE_INTEGER, 16],
  ['of more than fits', 0, size + 1],
];
for (const [where, position, length] of overruns) {
  kernelTest(`write ${where} is refused and copies nothing`, () => {
    using buffer = patterned();
    const source = new Uint8Array(length).fill(0xee);
    throwsCode(() => buffer.write(source, position), 'ERR_OUT_OF_RANGE');
    assert.deepEqual([...contents(buffer)], expected(0, size));
  });
}

/** Views of 8 bytes, of every kind; those with an offset lie in the middle of a larger memory. */
const views: readonly [string, () => ArrayBufferView][] = [
  ['a Uint8Array', () => new Uint8Array(8)],
  ['a Uint8Array with an offset', () => new Uint8Array(new ArrayBuffer(32), 5, 8)],
  ['a Uint8ClampedArray', () => new Uint8ClampedArray(8)],
  ['an Int8Array', () => new Int8Array(8)],
  ['a Uint16Array with an offset', () => new Uint16Array(new ArrayBuffer(32), 6, 4)],
  ['a Float32Array', () => new Float32Array(2)],
  ['a Float64Array', () => new Float64Array(1)],
  ['a BigUint64Array with an offset', () => new BigUint64Array(new ArrayBuffer(32), 8, 1)],
  ['a DataView with an offset', () => new DataView(new ArrayBuffer(32), 3, 8)],
  ['a Buffer', () => Buffer.alloc(8)],
  ['a Buffer of the pool', () => Buffer.allocUnsafe(8).fill(0)],
  ['a slice of a Buffer', () => Buffer.alloc(32).subarray(9, 17)],
  ['shared memory', () => new Uint8Array(new SharedArrayBuffer(32), 4, 8)],
  ['a DataView of shared memory', () => new DataView(new SharedArrayBuffer(32), 4, 8)],
];

const bytesOf = (view: ArrayBufferView): Uint8Array =>
  new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

for (const [kind, make] of views) {
  kernelTest(`read fills ${kind}, and nothing around it`, () => {
    using buffer = patterned();
    const view = make();
    const around = new Uint8Array(view.buffer).slice();
    assert.equal(buffer.read(view, 100), 8);
    assert.deepEqual([...bytesOf(view)], expected(100, 8));
    around.set(expected(100, 8), view.byteOffset);
    assert.deepEqual(new Uint8Array(view.buffer).slice(), around);
  });

  kernelTest(`write takes ${kind}, and nothing around it`, () => {
    using buffer = patterned();
    const whole = contents(buffer);
    const view = make();
    new Uint8Array(view.buffer).fill(0xaa);
    bytesOf(view).set([1, 2, 3, 4, 5, 6, 7, 8]);
    assert.equal(buffer.write(view, 100), 8);
    whole.set([1, 2, 3, 4, 5, 6, 7, 8], 100);
    assert.deepEqual(contents(buffer), whole);
  });
}

for (const target of [new Uint8Array(8), new Uint16Array(4)]) {
  kernelTest(`a detached ${target.constructor.name} holds nothing to copy into`, () => {
    using buffer = patterned();
    structuredClone(target.buffer, { transfer: [target.buffer] });
    assert.equal(buffer.read(target), 0);
  });
}

kernelTest('a part of a buffer can be copied to another through its own mapping', () => {
  using buffer = patterned();
  const { bytes } = buffer.map();
  buffer.read(bytes.subarray(2000, 4000), 0);
  assert.deepEqual([...contents(buffer).subarray(0, 4000)], [...expected(0, 2000), ...expected(0, 2000)]);
});

kernelTest('one buffer is copied into another through its mapping', () => {
  using from = patterned();
  using to = allocateSync(size);
  from.read(to.map().bytes);
  assert.deepEqual(contents(to), contents(from));
});

kernelTest('read works on a read-only descriptor', () => {
  using heap = allocateSync(4096, { access: 'read' });
  const target = new Uint8Array(16).fill(1);
  assert.equal(heap.read(target, 100), 16);
  assert.ok(target.every((byte) => byte === 0));
});

kernelTest('write refuses a read-only descriptor with EACCES', () => {
  using buffer = allocateSync(4096, { access: 'read' });
  throwsCode(() => buffer.write(new Uint8Array([1])), 'EACCES');
});

kernelTest('write refuses a read-only descriptor that was read before', () => {
  using buffer = allocateSync(4096, { access: 'read' });
  buffer.read(new Uint8Array(1));
  throwsCode(() => buffer.write(new Uint8Array([1])), 'EACCES');
});

kernelTest('read and write refuse a write-only descriptor, which the CPU cannot map', () => {
  using buffer = allocateSync(4096, { access: 'write' });
  throwsCode(() => buffer.read(new Uint8Array(1)), 'EACCES');
  throwsCode(() => buffer.write(new Uint8Array(1)), 'EACCES');
});
