import assert from 'node:assert/strict';
import { allocateSync } from 'dmabuf';
import { collectGarbage, turn } from '../../support/event-loop.js';
import { kernelTest } from '../../support/kernel-test.js';

const mebibyte = 1 << 20;
/** What may be kept of ranges that were unmapped, and some room for what Node.js does meanwhile. */
const most = 2 ** 30 + 64 * mebibyte;

const external = (): number => process.memoryUsage().external;

/** Below zero, it would be more than any machine has. */
function assertSane(before: number): void {
  const now = external();
  assert.ok(now >= 0 && now < before + most, `${now} bytes, ${before} before`);
}

kernelTest('what V8 counts as external memory stays sane while ranges are mapped and unmapped', async () => {
  using buffer = allocateSync(mebibyte);
  const before = external();
  for (let round = 0; round < 2_500; round++) {
    buffer.map().unmap();
    if (round % 50 !== 0) continue;
    assertSane(before);
    await turn();
    assertSane(before);
  }
  collectGarbage();
  await turn();
  assertSane(before);
});

kernelTest('it stays sane while ranges of which a view is kept are unmapped', async () => {
  using buffer = allocateSync(mebibyte);
  const before = external();
  const views: Uint8Array[] = [];
  for (let round = 0; round < 100; round++) {
    const mapping = buffer.map();
    views.push(mapping.bytes);
    mapping.unmap();
  }
  collectGarbage();
  assertSane(before);
  assert.ok(views.every((bytes) => bytes[0] === 0));
});

kernelTest('it stays sane when the memory was transferred before it is unmapped', async () => {
  using buffer = allocateSync(mebibyte);
  const before = external();
  for (let round = 0; round < 20; round++) {
    const mapping = buffer.map();
    structuredClone(mapping.buffer, { transfer: [mapping.buffer] });
    mapping.unmap();
    collectGarbage();
    assertSane(before);
    if (round % 5 === 0) await turn();
  }
});

kernelTest('ranges that were unmapped do not pile up', async () => {
  using buffer = allocateSync(mebibyte);
  const buffers: WeakRef<ArrayBuffer>[] = [];
  for (let round = 0; round < 10_000; round++) {
    const mapping = buffer.map({ length: 4096 });
    buffers.push(new WeakRef(mapping.buffer));
    mapping.unmap();
    if (round % 100 === 0) await turn();
  }
  await turn();
  collectGarbage();
  const left = buffers.filter((reference) => reference.deref() !== undefined).length;
  assert.ok(left <= 4096, `${left} are left`);
});
