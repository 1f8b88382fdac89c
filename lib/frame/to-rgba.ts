import { constants } from 'node:buffer';
import { readBytes } from '../buffer/copies.js';
import { bufferOf } from '../buffer/dma-buf.js';
import {
  checkFlag,
  checkInteger,
  invalidType,
  isObject,
  outOfRange,
  readOptions,
  tooLarge,
} from '../check.js';
import { native } from '../native.js';
import type { Component } from './formats.js';
import { checkLinearFrame, extentOf, type LinearFrame } from './layout.js';
import type { FrameLayout } from './planes.js';

/** A part of a picture, in pixels. */
export interface Rectangle {
  /** From the left edge of the picture. */
  x: number;
  /** From its upper edge. */
  y: number;
  /** At least 1. */
  width: number;
  /** At least 1. */
  height: number;
}

/** How {@link toRgba} reads a picture. */
export interface RgbaOptions {
  /** The part to convert. Default: the whole picture. */
  region?: Rectangle | undefined;
  /**
   * How luma and chroma stand for red, green and blue. Default `'bt709'` for pictures of 720 lines or more, else `'bt601'`,
   * as most players assume.
   */
  matrix?: 'bt601' | 'bt709' | undefined;
  /** Luma and chroma use all values, as in JPEG, not 16 to 235 and 240. Default false. */
  fullRange?: boolean | undefined;
}

const rgbaOptions = ['region', 'matrix', 'fullRange'] as const;
const models = ['rgb', 'yuv', 'grey'] as const;

function checkRegion(value: unknown, { width, height }: LinearFrame): Rectangle {
  if (value === undefined) return { x: 0, y: 0, width, height };
  if (!isObject(value)) throw invalidType('region', 'an object', value);
  const given = value as Rectangle;
  const x = checkInteger(given.x, 'region.x', 0, width - 1);
  const y = checkInteger(given.y, 'region.y', 0, height - 1);
  return {
    x,
    y,
    width: checkInteger(given.width, 'region.width', 1, width - x),
    height: checkInteger(given.height, 'region.height', 1, height - y),
  };
}

/** Which of the addon's matrices (native/os/pixels.h) it is. */
function matrixOf(matrix: unknown, height: number): number {
  if (matrix === undefined) return height >= 720 ? 1 : 0;
  if (matrix === 'bt601') return 0;
  if (matrix === 'bt709') return 1;
  throw outOfRange('matrix', "'bt601' or 'bt709'", matrix);
}

/** The lines of all planes that a region needs, copied one after the other. */
interface Lines {
  bytes: Uint8Array;
  /** Of each plane, where its first line is in `bytes`. */
  starts: number[];
}

/** No format shares a line among more than two of the picture: the first that is copied is even. */
function readLines({ format, width, height, planes }: LinearFrame, region: Rectangle): Lines {
  const first = region.y - (region.y % 2);
  const parts = planes.map(({ buffer, offset, stride }, index) => {
    const { bytes, lines } = extentOf(format, index, width, height);
    const { rows } = format.planes[index] as { rows: number };
    const from = first / rows;
    const to = Math.min(lines, Math.ceil((region.y + region.height + 1) / rows));
    return { buffer, position: offset + from * stride, length: (to - from - 1) * stride + bytes };
  });
  const total = parts.reduce((sum, { length }) => sum + length, 0);
  if (total > constants.MAX_LENGTH) throw tooLarge(total);
  const bytes = new Uint8Array(total);
  const starts: number[] = [];
  let start = 0;
  for (const { buffer, position, length } of parts) {
    readBytes(bufferOf(buffer), bytes.subarray(start, start + length), position);
    starts.push(start);
    start += length;
  }
  return { bytes, starts };
}

/** What the addon has to know of a component: the fields of Component in native/os/pixels.h, in their order. */
function row(component: Component, { planes }: LinearFrame, starts: readonly number[]): number[] {
  const { plane, columns, rows, lines, line, step, offset, word, shift, bits } = component;
  const { stride } = planes[plane] as { stride: number };
  return [starts[plane] as number, stride, columns, rows, lines, line, step, offset, word, shift, bits];
}

/**
 * Converts a picture of a linear format to red, green, blue and alpha, one byte each: for thumbnails, tests, and to look
 * at a frame. It takes milliseconds of the event loop for each megapixel: where every frame has to be converted, let a
 * device do it. Chroma and raw Bayer are not interpolated; 10 bits and more lose the lowest; alpha, which DRM's
 * formats have multiplied into the colours, stays as it is, and is 255 where the format has none.
 *
 * It copies the bytes as `DmaBuf.read()` does: it never waits for a device, and no other process can change them
 * under it.
 *
 * @returns 4 bytes a pixel, line by line, without padding.
 * @throws RangeError `ERR_OUT_OF_RANGE` for another modifier than 0n, planes that leave their buffers, or a region that
 *   leaves the picture
 * @throws DmaBufError `EAGAIN` while the fences of devices that write a buffer have not signalled; or what
 *   `DmaBuf.read()` throws
 *
 * @example
 * const thumbnail = toRgba(frame, { region: { x: 0, y: 0, width: 64, height: 64 } });
 */
export function toRgba(frame: FrameLayout, options?: RgbaOptions): Uint8Array {
  const linear = checkLinearFrame(frame);
  const { region: given, matrix, fullRange } = readOptions(options, rgbaOptions);
  const region = checkRegion(given, linear);
  const colours = matrixOf(matrix, linear.height) + (checkFlag(fullRange, 'fullRange') ? 2 : 0);
  const size = 4 * region.width * region.height;
  if (size > constants.MAX_LENGTH) throw tooLarge(size);
  const { bytes, starts } = readLines(linear, region);
  const { model, components } = linear.format;
  const plan = [region.x, region.y % 2, region.width, region.height, models.indexOf(model), colours];
  for (const component of components) plan.push(...row(component, linear, starts));
  const pixels = new Uint8Array(size);
  native.toRgba(bytes, Float64Array.from(plan), pixels);
  return pixels;
}
