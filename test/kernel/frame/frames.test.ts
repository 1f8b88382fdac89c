// Frames: which planes of a picture are where in which buffers.

import assert from 'node:assert/strict';
import { allocateSync, DmaBuf } from 'dmabuf';
import { frameOf, layoutOf, toNativePixmap } from 'dmabuf/frame';
import { throwsCode, unsound } from '../../support/expect.js';
import { kernelTest } from '../../support/kernel-test.js';

kernelTest('frameOf() places all planes in one buffer', () => {
  const layout = layoutOf('NV12', 640, 480, { strideAlign: 256, planeAlign: DmaBuf.pageSize });
  using buffer = allocateSync(layout.size);
  const frame = frameOf(buffer, 'NV12', 640, 480, { strideAlign: 256, planeAlign: DmaBuf.pageSize });
  assert.deepEqual(
    { ...frame, planes: frame.planes.map(({ buffer: _, ...plane }) => plane) },
    { fourcc: 'NV12', width: 640, height: 480, modifier: 0n, planes: layout.planes },
  );
  assert.ok(frame.planes.every((plane) => plane.buffer === buffer));
});

kernelTest('frameOf() takes a buffer for each plane', () => {
  using luma = allocateSync(640 * 480);
  using chroma = allocateSync(640 * 240);
  assert.deepEqual(
    frameOf([luma, chroma], 'NV12', 640, 480).planes.map(({ buffer, offset }) => [buffer === chroma, offset]),
    [
      [false, 0],
      [true, 0],
    ],
  );
});

kernelTest('frameOf() refuses buffers that do not hold the picture', () => {
  using buffer = allocateSync(4096);
  throwsCode(() => frameOf(buffer, 'XR24', 64, 17), 'ERR_OUT_OF_RANGE');
  throwsCode(() => frameOf([buffer], 'NV12', 8, 8), 'ERR_OUT_OF_RANGE');
  throwsCode(() => frameOf([buffer, buffer], 'NV12', 64, 65), 'ERR_OUT_OF_RANGE');
  throwsCode(() => frameOf(unsound([buffer, 5]), 'NV12', 8, 8), 'ERR_INVALID_ARG_TYPE');
  throwsCode(() => frameOf(unsound({}), 'NV12', 8, 8), 'ERR_INVALID_ARG_TYPE');
  const closed = allocateSync(4096);
  closed.close();
  throwsCode(() => frameOf(closed, 'GREY', 8, 8), 'ERR_DMABUF_CLOSED');
});

kernelTest("toNativePixmap() lends the buffers' descriptors", () => {
  using buffer = allocateSync(4096);
  const frame = { ...frameOf(buffer, 'NV12', 32, 32), modifier: 0x0100_0000_0000_0001n };
  assert.deepEqual(toNativePixmap(frame), {
    planes: [
      { fd: buffer.fd, stride: 32, offset: 0, size: 1024 },
      { fd: buffer.fd, stride: 32, offset: 1024, size: 512 },
    ],
    modifier: '72057594037927937',
  });
});

kernelTest('toNativePixmap() refuses frames that are none', () => {
  using buffer = allocateSync(4096);
  const frame = frameOf(buffer, 'GREY', 32, 32);
  const [plane] = frame.planes;
  throwsCode(() => toNativePixmap(unsound(undefined)), 'ERR_INVALID_ARG_TYPE');
  throwsCode(() => toNativePixmap({ ...frame, modifier: -1n }), 'ERR_OUT_OF_RANGE');
  throwsCode(
    () => toNativePixmap({ ...frame, planes: unsound([{ ...plane, offset: 4096 }]) }),
    'ERR_OUT_OF_RANGE',
  );
  buffer.close();
  throwsCode(() => toNativePixmap(frame), 'ERR_DMABUF_CLOSED');
});
