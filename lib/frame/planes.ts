import { bufferOf, type DmaBuf, isDmaBuf } from '../buffer/dma-buf.js';
import { checkInteger, invalidType, isObject, outOfRange } from '../check.js';
import { isArray, itemsOf } from '../intrinsics.js';

/** Where one plane of a picture is within a buffer. */
export interface PlaneLayout {
  /** Bytes from the start of the buffer. */
  offset: number;
  /** Bytes from one line to the next (`pitch` in DRM, `bytesperline` in V4L2). */
  stride: number;
  /** Bytes of all lines. */
  size: number;
}

/** One plane of a {@link FrameLayout}: where it is, and in which buffer. */
export interface FramePlane extends PlaneLayout {
  /** The buffer that holds the plane. */
  buffer: DmaBuf;
}

/** A picture in one dma-buf or several: what a device has to know beside the descriptors. */
export interface FrameLayout {
  /** The four-character code of the pixel format, as DRM writes it: `'NV12'`, `'XR24'`, `'YUYV'`. */
  fourcc: string;
  /** Pixels. */
  width: number;
  /** Pixels. */
  height: number;
  /** How the pixels are arranged (drm_fourcc.h): 0n is linear, line by line. */
  modifier: bigint;
  /** In the order of the format. */
  planes: FramePlane[];
}

/** A dma-buf of this copy's. */
export function checkBuffer(value: unknown, name: string): DmaBuf {
  if (!isDmaBuf(value)) throw invalidType(name, 'a DmaBuf', value);
  return value;
}

/** Whether a buffer has so many bytes. */
export function checkRoom(buffer: DmaBuf, end: number, what: string): void {
  const { size } = bufferOf(buffer);
  if (end > size) throw outOfRange('size of the buffer', `at least ${end} bytes for ${what}`, size);
}

function checkPlane(value: unknown, name: string): FramePlane {
  if (!isObject(value)) throw invalidType(name, 'an object', value);
  const { buffer, offset, stride, size } = value as Partial<FramePlane>;
  const plane = {
    buffer: checkBuffer(buffer, `${name}.buffer`),
    offset: checkInteger(offset, `${name}.offset`, 0, Number.MAX_SAFE_INTEGER),
    stride: checkInteger(stride, `${name}.stride`, 0, 2 ** 32 - 1),
    size: checkInteger(size, `${name}.size`, 0, Number.MAX_SAFE_INTEGER),
  };
  checkRoom(plane.buffer, plane.offset + plane.size, name);
  return plane;
}

/** The planes of a frame that the user made, each property read once. */
export function checkPlanes(frame: unknown): { planes: FramePlane[]; modifier: bigint } {
  if (!isObject(frame)) throw invalidType('frame', 'a FrameLayout', frame);
  const { modifier, planes } = frame as Partial<FrameLayout>;
  if (typeof modifier !== 'bigint') throw invalidType('frame.modifier', 'a bigint', modifier);
  if (modifier < 0n || modifier >= 2n ** 64n) throw outOfRange('frame.modifier', 'of 64 bits', modifier);
  if (!isArray(planes)) throw invalidType('frame.planes', 'an array', planes);
  const checked = itemsOf<unknown>(planes).map((plane, index) => checkPlane(plane, `frame.planes[${index}]`));
  if (checked.length < 1 || checked.length > 4) {
    throw outOfRange('number of frame.planes', 'from 1 to 4', checked.length);
  }
  return { modifier, planes: checked };
}
