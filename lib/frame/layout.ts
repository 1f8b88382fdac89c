import { type DmaBuf, isDmaBuf } from '../buffer/dma-buf.js';
import { checkInteger, invalidType, outOfRange, readOptions } from '../check.js';
import { ceil, isArray, itemsOf } from '../intrinsics.js';
import { type Format, formatOf } from './formats.js';
import {
  checkBuffer,
  checkPlanes,
  checkRoom,
  type FrameLayout,
  type FramePlane,
  type PlaneLayout,
} from './planes.js';

/** How {@link layoutOf} places planes. */
export interface LayoutOptions {
  /** Of what the stride of every plane is a multiple, in bytes. Default 1. Many compositors and GPUs need 256. */
  strideAlign?: number | undefined;
  /**
   * Of what the offset of every plane is a multiple, in bytes. Default 1. Some importers need whole pages:
   * `DmaBuf.pageSize`.
   */
  planeAlign?: number | undefined;
}

/** Where a picture of a linear format has its planes, and the bytes that they take together. */
export interface BufferLayout {
  /** Bytes that a buffer needs for all planes. */
  size: number;
  /** In the order of the format. */
  planes: PlaneLayout[];
}

const layoutOptions = ['strideAlign', 'planeAlign'] as const;

/** Pixels; the most that DRM's and V4L2's drivers know is a quarter of it. */
const mostPixels = 65_536;
const mostAlign = 2 ** 21;

function checkDimension(value: unknown, name: string, { fourcc, multiple }: Format): number {
  const pixels = checkInteger(value, name, 1, mostPixels);
  if (pixels % multiple !== 0) throw outOfRange(name, `a multiple of ${multiple} for ${fourcc}`, pixels);
  return pixels;
}

function align(value: number, to: number): number {
  return ceil(value / to) * to;
}

/** The bytes of a line of a plane that hold pixels, and the plane's number of lines. */
export function extentOf(
  format: Format,
  plane: number,
  width: number,
  height: number,
): { bytes: number; lines: number } {
  const shape = format.planes[plane] as Format['planes'][number];
  return { bytes: ceil(width / shape.columns) * shape.bytes, lines: ceil(height / shape.rows) };
}

function place(
  format: Format,
  width: number,
  height: number,
  options: LayoutOptions | undefined,
): BufferLayout {
  const { strideAlign = 1, planeAlign = 1 } = readOptions(options, layoutOptions);
  checkInteger(strideAlign, 'strideAlign', 1, mostAlign);
  checkInteger(planeAlign, 'planeAlign', 1, mostAlign);
  const planes: PlaneLayout[] = [];
  let end = 0;
  for (let index = 0; index < format.planes.length; index++) {
    const { bytes, lines } = extentOf(format, index, width, height);
    const stride = align(bytes, strideAlign);
    const offset = align(end, planeAlign);
    planes.push({ offset, stride, size: stride * lines });
    end = offset + stride * lines;
  }
  return { size: end, planes };
}

/**
 * Where a picture of a linear format has its planes in a buffer, one after the other: the sizes that V4L2's drivers
 * and DRM's ADDFB2 compute, where they ask for no padding. It asks no device: a driver may want other strides.
 *
 * @param fourcc DRM's code (drm_fourcc.h): `'XR24'`, `'NV12'`, `'YU12'` (also `'I420'`); for raw Bayer and greys also V4L2's.
 * @param width Pixels, up to 65 536.
 * @param height Lines, up to 65 536.
 * @throws RangeError `ERR_OUT_OF_RANGE` for a format that is not known
 *
 * @example
 * const { size, planes } = layoutOf('NV12', 1920, 1080, { strideAlign: 256 });
 */
export function layoutOf(
  fourcc: string,
  width: number,
  height: number,
  options?: LayoutOptions,
): BufferLayout {
  const format = formatOf(fourcc);
  return place(
    format,
    checkDimension(width, 'width', format),
    checkDimension(height, 'height', format),
    options,
  );
}

/**
 * Describes a picture of a linear format in a buffer.
 *
 * @param buffer Holds all planes; or an array of one buffer for each plane, at whose start the plane is.
 * @throws RangeError `ERR_OUT_OF_RANGE` for a format that is not known, a buffer that is too small, or another number of
 *   buffers than the format has planes
 * @throws DmaBufError `ERR_DMABUF_CLOSED`
 *
 * @example
 * const { size } = layoutOf('XR24', 640, 480);
 * const buffer = allocateSync(size);
 * const frame = frameOf(buffer, 'XR24', 640, 480);
 */
export function frameOf(
  buffer: DmaBuf | readonly DmaBuf[],
  fourcc: string,
  width: number,
  height: number,
  options?: LayoutOptions,
): FrameLayout {
  const format = formatOf(fourcc);
  checkDimension(width, 'width', format);
  checkDimension(height, 'height', format);
  const layout = place(format, width, height, options);
  const frame = { fourcc: format.fourcc, width, height, modifier: 0n };
  if (isDmaBuf(buffer)) {
    checkRoom(buffer, layout.size, `${width}x${height} ${format.fourcc}`);
    return { ...frame, planes: layout.planes.map((plane) => ({ buffer, ...plane })) };
  }
  if (!isArray(buffer)) throw invalidType('buffer', 'a DmaBuf or an array of DmaBufs', buffer);
  const buffers = itemsOf<unknown>(buffer);
  if (buffers.length !== layout.planes.length) {
    throw outOfRange(
      'number of buffers',
      `that of the planes of ${format.fourcc}, ${layout.planes.length}`,
      buffers.length,
    );
  }
  const planes = layout.planes.map(({ stride, size }, index) => {
    const own = checkBuffer(buffers[index], `buffer[${index}]`);
    checkRoom(own, size, `plane ${index} of ${width}x${height} ${format.fourcc}`);
    return { buffer: own, offset: 0, stride, size };
  });
  return { ...frame, planes };
}

/** A frame whose pixels lie line by line, in planes that have room for them. */
export interface LinearFrame {
  format: Format;
  width: number;
  height: number;
  planes: FramePlane[];
}

/** A frame of which the CPU can find the pixels. */
export function checkLinearFrame(frame: FrameLayout): LinearFrame {
  const { modifier, planes } = checkPlanes(frame);
  if (modifier !== 0n) {
    throw outOfRange(
      'frame.modifier',
      '0n (linear): only a device knows how others arrange pixels',
      modifier,
    );
  }
  const { fourcc, width, height } = frame;
  const format = formatOf(fourcc);
  checkDimension(width, 'frame.width', format);
  checkDimension(height, 'frame.height', format);
  if (planes.length !== format.planes.length) {
    throw outOfRange('number of frame.planes', `${format.planes.length} for ${format.fourcc}`, planes.length);
  }
  planes.forEach(({ stride, size }, index) => {
    const { bytes, lines } = extentOf(format, index, width, height);
    if (stride < bytes) throw outOfRange(`frame.planes[${index}].stride`, `at least ${bytes}`, stride);
    const least = stride * (lines - 1) + bytes;
    if (size < least) throw outOfRange(`frame.planes[${index}].size`, `at least ${least}`, size);
  });
  return { format, width, height, planes };
}
