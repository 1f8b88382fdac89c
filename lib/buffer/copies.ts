import { constants } from 'node:os';
import { checkInteger, checkView, outOfRange, readOptions } from '../check.js';
import { createError, type DmaBufError } from '../errors.js';
import { min } from '../intrinsics.js';
import { native } from '../native.js';
import type { OpenBuffer } from './open-buffer.js';

/** What {@link DmaBuf.text} decodes, and how. */
export interface TextOptions {
  /** Where to start in the buffer, in bytes. Default 0. */
  position?: number | undefined;
  /** Bytes; fewer are decoded at the end of the buffer. Default: up to the end of the buffer. */
  length?: number | undefined;
  /** Default `'utf8'`; bytes that are not UTF-8 become U+FFFD. */
  encoding?: 'utf8' | 'latin1' | undefined;
}

const textOptions = ['position', 'length', 'encoding'] as const;

/** A copy never waits for a device. */
function busy(): DmaBufError {
  return createError(-constants.errno.EAGAIN, 'poll');
}

/** Copies out of a buffer what `target` has room for; returns how many bytes. */
export function readBytes(buffer: OpenBuffer, target: ArrayBufferView, position: number): number {
  const bytes = checkView(target, 'target');
  checkInteger(position, 'position', 0, Number.MAX_SAFE_INTEGER);
  const start = min(position, buffer.size);
  const length = min(bytes.length, buffer.size - start);
  if (native.read(buffer.slot, bytes, start, length) === true) throw busy();
  return length;
}

/** Decodes a copy of a buffer's bytes. */
export function readText(buffer: OpenBuffer, options: TextOptions | undefined): string {
  const {
    position = 0,
    length = Number.MAX_SAFE_INTEGER,
    encoding = 'utf8',
  } = readOptions(options, textOptions);
  checkInteger(position, 'position', 0, Number.MAX_SAFE_INTEGER);
  checkInteger(length, 'length', 0, Number.MAX_SAFE_INTEGER);
  if (encoding !== 'utf8' && encoding !== 'latin1') {
    throw outOfRange('encoding', "'utf8' or 'latin1'", encoding);
  }
  const start = min(position, buffer.size);
  const copy = Buffer.allocUnsafeSlow(min(length, buffer.size - start));
  if (native.read(buffer.slot, copy, start, copy.length) === true) throw busy();
  return copy.toString(encoding);
}

/** Copies all of `source` into a buffer; returns how many bytes. */
export function writeBytes(buffer: OpenBuffer, source: ArrayBufferView, position: number): number {
  const bytes = checkView(source, 'source');
  checkInteger(position, 'position', 0, Number.MAX_SAFE_INTEGER);
  if (position + bytes.length > buffer.size) {
    throw outOfRange(
      'position',
      `such that ${bytes.length} bytes fit into the buffer's ${buffer.size}`,
      position,
    );
  }
  if (native.write(buffer.slot, bytes, position) === true) throw busy();
  return bytes.length;
}
