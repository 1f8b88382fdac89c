// What FrameSender and FrameReceiver write to each other: docs/frames.md describes it for other languages. Little-endian.

/** 'FRM', and the version of the format, 1. */
const magic = 0x31_4d_52_46;
const frameType = 1;
const returnType = 2;

const headerBytes = 48;
const planeBytes = 24;
const returnBytes = 16;

/** The most planes of a picture, as in DRM. */
const mostPlanes = 4;

/** The most buffers that one receiver is to remember. */
export const mostBuffers = 128;

const hasReadyFile = 1;
const hasMetadata = 2;

// Taken when this is loaded: see intrinsics.ts.
const Memory = ArrayBuffer;
const Bytes = Uint8Array;
const Words = Uint32Array;
const Longs = BigUint64Array;
const { fromCharCode } = String;
const { floor } = Math;

/** One plane of a frame, its buffer by the number that the sender has given it. */
export interface NamedPlane {
  buffer: number;
  stride: number;
  offset: number;
  size: number;
}

/** A frame on its way. */
export interface FrameMessage {
  sequence: number;
  fourcc: string;
  width: number;
  height: number;
  modifier: bigint;
  planes: NamedPlane[];
  /** Which planes' buffers come with the message, one handle for each, as bits. */
  introduced: number;
  /** Whether the last handle is a sync_file to wait for. */
  hasReady: boolean;
  /** Numbers of buffers that the receiver should close. */
  forgotten: number[];
  /** As JSON. */
  metadata: Uint8Array | undefined;
}

/** A message as 32-bit words, and the modifier of a frame as 64 bits. */
interface Parts {
  bytes: Uint8Array;
  words: Uint32Array;
  long: BigUint64Array;
}

/** Of memory that holds a frame's header at least. */
function partsOf(memory: ArrayBuffer, length: number): Parts {
  const words = new Words(memory, 0, floor(length / 4));
  return { bytes: new Bytes(memory), words, long: new Longs(memory, 32, 1) };
}

function setWhole(words: Uint32Array, index: number, value: number): void {
  words[index] = value % 2 ** 32;
  words[index + 1] = floor(value / 2 ** 32);
}

/** A whole number up to 2^53 - 1; NaN for more. */
function getWhole(words: Uint32Array, index: number): number {
  const high = words[index + 1] as number;
  return high < 2 ** 21 ? high * 2 ** 32 + (words[index] as number) : Number.NaN;
}

/** Where planes begin, and what follows them, in words. */
const firstPlane = headerBytes / 4;
const planeWords = planeBytes / 4;

/** The message of a frame. */
export function encodeFrame(message: FrameMessage): Uint8Array {
  const { planes, forgotten, metadata, fourcc, hasReady } = message;
  const start = headerBytes + planes.length * planeBytes + forgotten.length * 4;
  const length = start + (metadata === undefined ? 0 : metadata.length);
  const { bytes, words, long } = partsOf(new Memory(length), length);
  words[0] = magic;
  bytes[4] = frameType;
  bytes[5] = planes.length;
  bytes[6] = message.introduced;
  bytes[7] = (hasReady ? hasReadyFile : 0) + (metadata === undefined ? 0 : hasMetadata);
  setWhole(words, 2, message.sequence);
  for (let index = 0; index < 4; index++) bytes[16 + index] = fourcc.charCodeAt(index);
  words[5] = message.width;
  words[6] = message.height;
  words[7] = forgotten.length;
  long[0] = message.modifier;
  let at = firstPlane;
  for (let index = 0; index < planes.length; index++, at += planeWords) {
    const plane = planes[index] as NamedPlane;
    words[at] = plane.buffer;
    words[at + 1] = plane.stride;
    setWhole(words, at + 2, plane.offset);
    setWhole(words, at + 4, plane.size);
  }
  for (let index = 0; index < forgotten.length; index++) words[at + index] = forgotten[index] as number;
  if (metadata !== undefined) {
    for (let index = 0; index < metadata.length; index++) bytes[start + index] = metadata[index] as number;
  }
  return bytes;
}

function decodeFourcc(bytes: Uint8Array): string | undefined {
  for (let index = 16; index < 20; index++) {
    const code = bytes[index] as number;
    if (code < 0x20 || code > 0x7e) return undefined;
  }
  return fromCharCode(bytes[16] as number, bytes[17] as number, bytes[18] as number, bytes[19] as number);
}

/** Whether bytes are a message of that type, with `least` bytes at least. */
function isMessage(bytes: Uint8Array, type: number, least: number): boolean {
  if (bytes.length < least || bytes[4] !== type) return false;
  for (let index = 0; index < 4; index++) if (bytes[index] !== ((magic >>> (8 * index)) & 0xff)) return false;
  return true;
}

/** The frame of a message that was received; undefined for what is none. The numbers may still be anything. */
export function decodeFrame(received: Uint8Array): FrameMessage | undefined {
  if (!isMessage(received, frameType, headerBytes)) return undefined;
  const { bytes, words, long } = partsOf(received.buffer as ArrayBuffer, received.length);
  const count = bytes[5] as number;
  const forgottenCount = words[7] as number;
  const fourcc = decodeFourcc(bytes);
  if (count < 1 || count > mostPlanes || forgottenCount > mostBuffers || fourcc === undefined) {
    return undefined;
  }
  const start = headerBytes + count * planeBytes + forgottenCount * 4;
  if (bytes.length < start) return undefined;
  const planes: NamedPlane[] = [];
  let at = firstPlane;
  for (let index = 0; index < count; index++, at += planeWords) {
    planes[index] = {
      buffer: words[at] as number,
      stride: words[at + 1] as number,
      offset: getWhole(words, at + 2),
      size: getWhole(words, at + 4),
    };
  }
  const forgotten: number[] = [];
  for (let index = 0; index < forgottenCount; index++) forgotten[index] = words[at + index] as number;
  const flags = bytes[7] as number;
  const metadata =
    (flags & hasMetadata) === 0 ? undefined : new Bytes(bytes.buffer, start, bytes.length - start);
  return {
    sequence: getWhole(words, 2),
    fourcc,
    width: words[5] as number,
    height: words[6] as number,
    modifier: long[0] as bigint,
    planes,
    introduced: (bytes[6] as number) & ((1 << count) - 1),
    hasReady: (flags & hasReadyFile) !== 0,
    forgotten,
    metadata,
  };
}

/** What a receiver sends when it is done with a frame. */
export function encodeReturn(sequence: number): Uint8Array {
  const memory = new Memory(returnBytes);
  const words = new Words(memory);
  words[0] = magic;
  words[1] = returnType;
  setWhole(words, 2, sequence);
  return new Bytes(memory);
}

/** The number of the frame that is returned; undefined for another message. */
export function decodeReturn(bytes: Uint8Array): number | undefined {
  if (!isMessage(bytes, returnType, returnBytes)) return undefined;
  return getWhole(new Words(bytes.buffer as ArrayBuffer, 0, returnBytes / 4), 2);
}
