import { native } from '../native.js';

// V8 takes the bytes of an ArrayBuffer for memory until the ArrayBuffer is collected, and collects everything whenever these
// have grown by some 64 MiB. After unmap() there is no memory behind them, and the collections were four fifths of the cost of
// map() and unmap(). So V8 is told that these bytes are gone. It subtracts them once more when it collects the ArrayBuffer,
// and must not come below zero: the ArrayBuffers are kept until V8 is told that the bytes are there again, many at a time.

/** Ranges that show zeros, with the kernel's and V8's records of them. */
const mostRanges = 4096;
/** Of addresses alone: no pages are there. */
const mostBytes = 2 ** 30;

let kept: ArrayBuffer[] = [];
let keptBytes = 0;

/** The memory of this ArrayBuffer of so many bytes is gone. */
export function retire(buffer: ArrayBuffer, length: number): void {
  // It was transferred: V8 counts it where it is now.
  if (buffer.byteLength !== length) return;
  native.adjustExternalMemory(-length);
  kept.push(buffer);
  keptBytes += length;
  if (kept.length < mostRanges && keptBytes < mostBytes) return;
  const bytes = keptBytes;
  kept = [];
  keptBytes = 0;
  // V8 collects them here, or soon.
  native.adjustExternalMemory(bytes);
}
