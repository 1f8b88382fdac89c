// Where the planes of a picture are: computed, without a buffer.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type LayoutOptions, layoutOf } from 'dmabuf/frame';
import fc from 'fast-check';
import { knownFormats } from '../../lib/frame/formats.js';
import { throwsCode, unsound } from '../support/expect.js';

/** [code, width, height, bytes, strides], by the kernel's documents on pixel formats. */
const layouts: readonly [string, number, number, number, number[]][] = [
  ['XR24', 640, 480, 1_228_800, [2560]],
  ['RG24', 641, 480, 923_040, [1923]],
  ['RG16', 640, 480, 614_400, [1280]],
  ['AB48', 640, 480, 2_457_600, [5120]],
  ['YUYV', 640, 480, 614_400, [1280]],
  ['YUYV', 641, 1, 1284, [1284]],
  ['NV12', 1920, 1080, 3_110_400, [1920, 1920]],
  ['NV16', 640, 480, 614_400, [640, 640]],
  ['NV24', 640, 480, 921_600, [640, 1280]],
  ['NV12', 641, 481, 641 * 481 + 642 * 241, [641, 642]],
  ['P010', 640, 480, 921_600, [1280, 1280]],
  ['YU12', 640, 480, 460_800, [640, 320, 320]],
  ['YV12', 640, 480, 460_800, [640, 320, 320]],
  ['YU24', 640, 480, 921_600, [640, 640, 640]],
  ['GREY', 640, 480, 307_200, [640]],
  ['Y10', 640, 480, 614_400, [1280]],
  ['R8', 640, 480, 307_200, [640]],
  ['RGGB', 640, 480, 307_200, [640]],
  ['BG10', 640, 480, 614_400, [1280]],
];

describe('layoutOf()', () => {
  for (const [fourcc, width, height, size, strides] of layouts) {
    test(`${width}x${height} ${fourcc} takes ${size} bytes, its lines ${strides.join(', ')}`, () => {
      const layout = layoutOf(fourcc, width, height);
      assert.equal(layout.size, size);
      assert.deepEqual(
        layout.planes.map(({ stride }) => stride),
        strides,
      );
    });
  }

  test('one plane follows the other', () => {
    assert.deepEqual(layoutOf('NV12', 64, 32).planes, [
      { offset: 0, stride: 64, size: 2048 },
      { offset: 2048, stride: 64, size: 1024 },
    ]);
  });

  test("'I420' is the name of others for 'YU12'", () => {
    assert.deepEqual(layoutOf('I420', 64, 32), layoutOf('YU12', 64, 32));
  });

  test('strides and offsets are multiples of what is asked for', () => {
    const sizes = { width: fc.integer({ min: 1, max: 2000 }), height: fc.integer({ min: 1, max: 2000 }) };
    const aligns = {
      strideAlign: fc.constantFrom(undefined, 1, 4, 64, 256),
      planeAlign: fc.constantFrom(undefined, 1, 64, 4096),
    };
    fc.assert(
      fc.property(
        fc.constantFrom(...knownFormats),
        fc.record(sizes),
        fc.record(aligns),
        (fourcc, { width, height }, options: LayoutOptions) => {
          const least = layoutOf(fourcc, 2 * width, 2 * height);
          const { size, planes } = layoutOf(fourcc, 2 * width, 2 * height, options);
          let end = 0;
          planes.forEach((plane, index) => {
            assert.equal(plane.stride % (options.strideAlign ?? 1), 0);
            assert.equal(plane.offset % (options.planeAlign ?? 1), 0);
            assert.ok(plane.offset >= end && plane.stride >= (least.planes[index]?.stride ?? Infinity));
            end = plane.offset + plane.size;
          });
          assert.equal(size, end);
        },
      ),
    );
  });

  test('the largest picture has a size that is a whole number', () => {
    assert.ok(Number.isSafeInteger(layoutOf('AB48', 65_536, 65_536, { strideAlign: 2 ** 21 }).size));
  });

  const wrong: readonly [string, () => unknown, string][] = [
    ['a format that nobody knows', () => layoutOf('ABCD', 64, 64), 'ERR_OUT_OF_RANGE'],
    ["an object's own property as a format", () => layoutOf('constructor', 64, 64), 'ERR_OUT_OF_RANGE'],
    ['a format that is no string', () => layoutOf(unsound(5), 64, 64), 'ERR_OUT_OF_RANGE'],
    ['no width', () => layoutOf('NV12', 0, 64), 'ERR_OUT_OF_RANGE'],
    ['half a line', () => layoutOf('NV12', 64, 0.5), 'ERR_OUT_OF_RANGE'],
    ['a width as text', () => layoutOf('NV12', unsound('64'), 64), 'ERR_INVALID_ARG_TYPE'],
    ['an odd width of a Bayer pattern', () => layoutOf('RGGB', 63, 64), 'ERR_OUT_OF_RANGE'],
    ['too many lines', () => layoutOf('NV12', 64, 65_537), 'ERR_OUT_OF_RANGE'],
    ['an alignment of 0', () => layoutOf('NV12', 64, 64, { strideAlign: 0 }), 'ERR_OUT_OF_RANGE'],
    [
      'an option that was misspelt',
      () => layoutOf('NV12', 64, 64, unsound({ strideAlignment: 4 })),
      'ERR_INVALID_ARG_VALUE',
    ],
  ];
  for (const [what, call, code] of wrong) {
    test(`refuses ${what}`, () => void throwsCode(call, code));
  }

  test('the error lists the formats', () => {
    assert.match(throwsCode(() => layoutOf('ABCD', 64, 64), 'ERR_OUT_OF_RANGE').message, /XR24.*NV12/);
  });
});
