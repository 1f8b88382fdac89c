// Pictures in real buffers, converted.

import assert from 'node:assert/strict';
import { allocateSync, type DmaBuf } from 'dmabuf';
import { type FrameLayout, frameOf, layoutOf, type RgbaOptions, toRgba } from 'dmabuf/frame';
import { knownFormats } from '../../../lib/frame/formats.js';
import { throwsCode, unsound } from '../../support/expect.js';
import { addFence, fenceTest } from '../../support/fences.js';
import { kernelTest } from '../../support/kernel-test.js';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** The bytes of a picture of 2x2 pixels of one colour, and that colour, by the comments in drm_fourcc.h and videodev2.h. */
const pictures: Readonly<Record<string, [bytes: string, pixel: string]>> = {
  XR24: ['33221100'.repeat(4), '112233ff'],
  AR24: ['33221144'.repeat(4), '11223344'],
  XB24: ['11223300'.repeat(4), '112233ff'],
  AB24: ['11223344'.repeat(4), '11223344'],
  RX24: ['00332211'.repeat(4), '112233ff'],
  RA24: ['44332211'.repeat(4), '11223344'],
  BX24: ['00112233'.repeat(4), '112233ff'],
  BA24: ['44112233'.repeat(4), '11223344'],
  RG24: ['332211'.repeat(4), '112233ff'],
  BG24: ['112233'.repeat(4), '112233ff'],
  RG16: ['00f8'.repeat(4), 'ff0000ff'],
  BG16: ['1f00'.repeat(4), 'ff0000ff'],
  XR15: ['007c'.repeat(4), 'ff0000ff'],
  AR15: ['007c'.repeat(4), 'ff000000'],
  XR12: ['000f'.repeat(4), 'ff0000ff'],
  AR12: ['008f'.repeat(4), 'ff000088'],
  XR30: ['0000f03f'.repeat(4), 'ff0000ff'],
  AR30: ['0000f07f'.repeat(4), 'ff000055'],
  XB30: ['ff030000'.repeat(4), 'ff0000ff'],
  AB30: ['ff030040'.repeat(4), 'ff000055'],
  XR48: ['0033002200110000'.repeat(4), '112233ff'],
  AR48: ['0033002200110044'.repeat(4), '11223344'],
  XB48: ['0011002200330000'.repeat(4), '112233ff'],
  AB48: ['0011002200330044'.repeat(4), '11223344'],
  XYUV: ['f05a5100'.repeat(4), 'fe0000ff'],
  AYUV: ['f05a5144'.repeat(4), 'fe000044'],
  YUYV: ['515a51f0'.repeat(2), 'fe0000ff'],
  YVYU: ['51f0515a'.repeat(2), 'fe0000ff'],
  UYVY: ['5a51f051'.repeat(2), 'fe0000ff'],
  VYUY: ['f0515a51'.repeat(2), 'fe0000ff'],
  NV12: [`${'51'.repeat(4)}5af0`, 'fe0000ff'],
  NV21: [`${'51'.repeat(4)}f05a`, 'fe0000ff'],
  NV16: [`${'51'.repeat(4)}5af05af0`, 'fe0000ff'],
  NV61: [`${'51'.repeat(4)}f05af05a`, 'fe0000ff'],
  NV24: [`${'51'.repeat(4)}${'5af0'.repeat(4)}`, 'fe0000ff'],
  NV42: [`${'51'.repeat(4)}${'f05a'.repeat(4)}`, 'fe0000ff'],
  P010: [`${'4051'.repeat(4)}005a00f0`, 'fe0000ff'],
  P012: [`${'1051'.repeat(4)}005a00f0`, 'fe0000ff'],
  P016: [`${'0151'.repeat(4)}005a00f0`, 'fe0000ff'],
  P210: [`${'4051'.repeat(4)}${'005a00f0'.repeat(2)}`, 'fe0000ff'],
  YU12: [`${'51'.repeat(4)}5af0`, 'fe0000ff'],
  YV12: [`${'51'.repeat(4)}f05a`, 'fe0000ff'],
  YU16: [`${'51'.repeat(4)}5a5af0f0`, 'fe0000ff'],
  YV16: [`${'51'.repeat(4)}f0f05a5a`, 'fe0000ff'],
  YU24: [`${'51'.repeat(4)}5a5a5a5af0f0f0f0`, 'fe0000ff'],
  YV24: [`${'51'.repeat(4)}f0f0f0f05a5a5a5a`, 'fe0000ff'],
  'R8  ': ['80'.repeat(4), '808080ff'],
  'R10 ': ['0002'.repeat(4), '808080ff'],
  'R12 ': ['0008'.repeat(4), '808080ff'],
  'R16 ': ['0080'.repeat(4), '808080ff'],
  GREY: ['80'.repeat(4), '808080ff'],
  'Y10 ': ['0002'.repeat(4), '808080ff'],
  'Y12 ': ['0008'.repeat(4), '808080ff'],
  'Y16 ': ['0080'.repeat(4), '808080ff'],
  RGGB: ['11222233', '112233ff'],
  GRBG: ['22113322', '112233ff'],
  GBRG: ['22331122', '112233ff'],
  BA81: ['33222211', '112233ff'],
  RG10: ['44008800' + '8800cc00', '112233ff'],
  BA10: ['88004400' + 'cc008800', '112233ff'],
  GB10: ['8800cc00' + '44008800', '112233ff'],
  BG10: ['cc008800' + '88004400', '112233ff'],
  RG12: ['10012002' + '20023003', '112233ff'],
  BA12: ['20021001' + '30032002', '112233ff'],
  GB12: ['20023003' + '10012002', '112233ff'],
  BG12: ['30032002' + '20021001', '112233ff'],
  GR16: ['00220011' + '00330022', '112233ff'],
  GB16: ['00220033' + '00110022', '112233ff'],
  BYR2: ['00330022' + '00220011', '112233ff'],
};

kernelTest('every format is converted', () => {
  assert.deepEqual(Object.keys(pictures).sort(), [...knownFormats].sort());
  using buffer = allocateSync(4096);
  for (const [fourcc, [bytes, pixel]] of Object.entries(pictures)) {
    assert.equal(bytes.length / 2, layoutOf(fourcc, 2, 2).size, fourcc);
    buffer.write(Buffer.from(bytes, 'hex'));
    assert.equal(hex(toRgba(frameOf(buffer, fourcc, 2, 2))), pixel.repeat(4), fourcc);
  }
});

/** A grey picture whose pixels are all different; 16 wide. */
function withPicture(body: (frame: FrameLayout, buffer: DmaBuf) => void): void {
  using buffer = allocateSync(4096);
  const frame = frameOf(buffer, 'GREY', 16, 8, { strideAlign: 32 });
  const { stride } = frame.planes[0] as { stride: number };
  for (let y = 0; y < 8; y++) {
    buffer.write(
      Uint8Array.from({ length: 16 }, (_, x) => 16 * y + x),
      y * stride,
    );
  }
  body(frame, buffer);
}

const reds = (rgba: Uint8Array): number[] => [...rgba.filter((_, index) => index % 4 === 0)];

kernelTest('lines are taken by their stride', () => {
  withPicture((frame) =>
    assert.deepEqual(
      reds(toRgba(frame)),
      Array.from({ length: 128 }, (_, index) => index),
    ),
  );
});

kernelTest('a region is a part of the whole', () => {
  withPicture((frame) => {
    for (const [x, y] of [
      [0, 0],
      [3, 1],
      [14, 6],
      [1, 5],
    ] as const) {
      const region = { x, y, width: 2, height: 2 };
      assert.deepEqual(
        reds(toRgba(frame, { region })),
        [0, 1, 16, 17].map((step) => 16 * y + x + step),
      );
    }
  });
});

kernelTest('a region of pixels that share their chroma has their colour', () => {
  using buffer = allocateSync(4096);
  const frame = frameOf(buffer, 'NV12', 4, 4);
  buffer.write(new Uint8Array(16).fill(0x51));
  buffer.write(Buffer.from('8080808080805af0', 'hex'), 16);
  const pixel = (x: number, y: number) => hex(toRgba(frame, { region: { x, y, width: 1, height: 1 } }));
  assert.equal(pixel(3, 3), 'fe0000ff');
  assert.equal(pixel(2, 2), 'fe0000ff');
  assert.equal(pixel(1, 3), '4c4c4cff');
});

kernelTest('planes may be in buffers of their own', () => {
  using luma = allocateSync(4096);
  using chroma = allocateSync(4096);
  const frame = frameOf([luma, chroma], 'NV12', 2, 2);
  luma.write(Buffer.from('51515151', 'hex'));
  chroma.write(Buffer.from('5af0', 'hex'));
  assert.equal(hex(toRgba(frame)), 'fe0000ff'.repeat(4));
});

kernelTest('the matrix and the range change the colours of YUV', () => {
  using buffer = allocateSync(4096);
  const frame = frameOf(buffer, 'YU24', 1, 1);
  const colour = (bytes: string, options?: RgbaOptions) => {
    buffer.write(Buffer.from(bytes, 'hex'));
    return hex(toRgba(frame, options));
  };
  assert.equal(colour('eb8080'), 'ffffffff');
  assert.equal(colour('ff8080', { fullRange: true }), 'ffffffff');
  assert.equal(colour('3f66f0', { matrix: 'bt709' }), 'ff0100ff'); // BT.709's red, rounded
  assert.equal(colour('3f66f0', { matrix: 'bt601' }), 'e90002ff');
});

kernelTest('what is wrong with a frame is said', () => {
  withPicture((frame, buffer) => {
    const [plane] = frame.planes as [FrameLayout['planes'][number]];
    const wrong: [object | null, string, RegExp][] = [
      [null, 'ERR_INVALID_ARG_TYPE', /frame/],
      [{ modifier: 1n }, 'ERR_OUT_OF_RANGE', /linear/],
      [{ modifier: 0 }, 'ERR_INVALID_ARG_TYPE', /bigint/],
      [{ planes: [] }, 'ERR_OUT_OF_RANGE', /planes/],
      [{ planes: [plane, plane] }, 'ERR_OUT_OF_RANGE', /planes/],
      [{ planes: [{ ...plane, stride: 15 }] }, 'ERR_OUT_OF_RANGE', /stride/],
      [{ planes: [{ ...plane, size: 100 }] }, 'ERR_OUT_OF_RANGE', /size/],
      [{ planes: [{ ...plane, offset: 4000 }] }, 'ERR_OUT_OF_RANGE', /buffer/],
      [{ planes: [{ ...plane, buffer: {} }] }, 'ERR_INVALID_ARG_TYPE', /DmaBuf/],
      [{ width: 17, fourcc: 'XR24' }, 'ERR_OUT_OF_RANGE', /stride/],
      [{ fourcc: 'ABCD' }, 'ERR_OUT_OF_RANGE', /format/],
    ];
    for (const [change, code, words] of wrong) {
      const made = change === null ? null : { ...frame, ...change };
      assert.match(throwsCode(() => toRgba(unsound(made)), code).message, words);
    }
    throwsCode(() => toRgba(frame, { region: { x: 8, y: 0, width: 9, height: 1 } }), 'ERR_OUT_OF_RANGE');
    throwsCode(() => toRgba(frame, { matrix: unsound('bt2020') }), 'ERR_OUT_OF_RANGE');
    buffer.close();
    throwsCode(() => toRgba(frame), 'ERR_DMABUF_CLOSED');
  });
});

fenceTest('a picture that a device still writes is not read', () => {
  using buffer = allocateSync(4096);
  const frame = frameOf(buffer, 'GREY', 16, 8);
  const fence = addFence(buffer, 'write');
  throwsCode(() => toRgba(frame), 'EAGAIN');
  fence.signal();
  assert.equal(toRgba(frame).length, 512);
});
