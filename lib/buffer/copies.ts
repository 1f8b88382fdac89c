import { constants } from 'node:os';
import { checkInteger, checkView, outOfRange, readOptions } from '../check.js';
import { createError, type DmaBufError } from '../errors.js';
import { min } from '../intrinsics.js';
import { native } from '../native.js';
import { isTracedSync } from '../tracing.js';
import { accessTracing } from './access-tracing.js';
import type { OpenBuffer } from './open-buffer.js';

/** What {@link DmaBuf.text} decodes, and how. */
export interface TextOptions {
  /** Where to start in the buffer, in bytes. Default 0. */
  position?: number | undefined;
  /** How many bytes to decode; fewer are decoded at the end of the buffer. Default: up to the end of the buffer. */
  length?: number | undefined;
  /** Default `'utf8'`; bytes that are not UTF-8 become U+FFFD. */
  encoding?: 'utf8' | 'latin1' | undefined;
}

const textOptions = ['position', 'length', 'encoding'] as const;

/** A copy never waits for a device. */
function busy(): DmaBufError {
  return createError(-constants.errno.EAGAIN, 'poll');
}

/** Copies as many bytes out of a buffer as `target` has room for; returns how many. */
export function readBytes(buffer: OpenBuffer, target: ArrayBufferView, position: number): number {
  const bytes = checkView(target, 'target');
  checkInteger(position, 'position', 0, Number.MAX_SAFE_INTEGER);
  const start = min(position, buffer.size);
  const length = min(bytes.length, buffer.size - start);
  copyOut(buffer, bytes, start, length);
  return length;
}

function copyOut(buffer: OpenBuffer, target: Uint8Array, start: number, length: number): void {
  if (isTracedSync(accessTracing)) {
    const trace = { ...buffer.traceOf('read', 1), length };
    accessTracing.traceSync(copyOutNow, trace, undefined, buffer, target, start, length);
  } else copyOutNow(buffer, target, start, length);
}

function copyOutNow({ slot }: OpenBuffer, target: Uint8Array, start: number, length: number): void {
  if (native.read(slot, target, start, length) === true) throw busy();
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
  copyOut(buffer, copy, start, copy.length);
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
  copyIn(buffer, bytes, position);
  return bytes.length;
}

function copyIn(buffer: OpenBuffer, source: Uint8Array, position: number): void {
  if (isTracedSync(accessTracing)) {
    const trace = { ...buffer.traceOf('write', 2), length: source.length };
    accessTracing.traceSync(copyInNow, trace, undefined, buffer, source, position);
  } else copyInNow(buffer, source, position);
}

function copyInNow({ slot }: OpenBuffer, source: Uint8Array, position: number): void {
  if (native.write(slot, source, position) === true) throw busy();
}
