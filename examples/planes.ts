// A video frame in one buffer, described plane by plane, as GPUs, codecs and Electron accept frames: fd, offset, stride
// and size of each plane, and DRM's format modifier. Writes both planes of an NV12 frame and checks them.
//
//   node planes.js

import { allocate, DmaBuf } from 'dmabuf';

/** All figures are in bytes. */
interface Plane {
  fd: number;
  /** From the buffer's start to the plane's first row. */
  offset: number;
  /** From the start of a row to the start of the next: the row and the padding that the hardware needs after it. */
  stride: number;
  /** All rows with their padding: stride times rows. */
  size: number;
}

const width = 1920;
const height = 1080;

const alignUp = (bytes: number, alignment: number): number => Math.ceil(bytes / alignment) * alignment;

// The device's documentation says which alignment it demands; 256 bytes are an example.
const strideAlignment = 256;
// map() needs offsets at the start of a page.
const offsetAlignment = DmaBuf.pageSize;

// NV12: a byte of Y (brightness) for each pixel; then, for each 2 x 2 pixels, a byte of U and one of V side by side. So a
// row of UV has as many bytes as one of Y, and there are half as many rows.
const stride = alignUp(width, strideAlignment);
const y = { offset: 0, stride, size: stride * height };
const uv = { offset: alignUp(y.size, offsetAlignment), stride, size: (stride * height) / 2 };

// DRM_FORMAT_MOD_LINEAR of drm_fourcc.h: rows are stored one after the other, the only layout that is this simple to
// write. A modifier has 64 bits with the vendor in the upper 8, so it needs a bigint: a number would round it.
const linear = 0n;
const intelTile4 = (1n << 56n) | 9n;

/** The frame for Electron: `sharedTexture.importSharedTexture({ textureInfo })`. */
function textureInfo(buffer: DmaBuf) {
  // Both planes are in the same buffer. The descriptor is lent: keep the buffer open while the frame is shown.
  const planes: Plane[] = [y, uv].map((plane) => ({ fd: buffer.fd, ...plane }));
  return {
    pixelFormat: 'nv12',
    codedSize: { width, height },
    visibleRect: { x: 0, y: 0, width, height },
    handle: {
      nativePixmap: {
        planes,
        modifier: linear.toString(), // Decimal.
        supportsZeroCopyWebGpuImport: false,
      },
    },
  };
}

using buffer = await allocate(uv.offset + uv.size, { from: ['cma', 'system', 'udmabuf'], name: 'nv12' });
console.log(JSON.stringify(textureInfo(buffer), null, 2));

/** Brightness rises from left to right. */
const brightness = (column: number): number => 16 + Math.floor((column * 220) / width);
const blue = 90;
const red = 240;

{
  using luma = buffer.map({ access: 'write', offset: y.offset, length: y.size });
  using chroma = buffer.map({ access: 'write', offset: uv.offset, length: uv.size });
  // A CPU access covers the whole buffer, whatever part of it is mapped.
  using _access = await buffer.cpuAccess('write');
  const row = Uint8Array.from({ length: width }, (_, column) => brightness(column));
  for (let line = 0; line < height; line++) luma.bytes.set(row, line * y.stride);
  const colour = Uint8Array.from({ length: width }, (_, column) => (column % 2 === 0 ? blue : red));
  for (let line = 0; line < height / 2; line++) chroma.bytes.set(colour, line * uv.stride);
}

/** A pixel, read through the description of the planes. */
function pixel(column: number, line: number): number[] {
  const luma = new Uint8Array(1);
  const chroma = new Uint8Array(2);
  buffer.read(luma, y.offset + line * y.stride + column);
  buffer.read(chroma, uv.offset + (line >> 1) * uv.stride + (column & ~1));
  return [...luma, ...chroma];
}

for (const [column, line] of [
  [0, 0],
  [width - 1, 0],
  [width / 2, height / 2],
  [width - 1, height - 1],
] as const) {
  const found = pixel(column, line).join(' ');
  const expected = [brightness(column), blue, red].join(' ');
  if (found !== expected) throw new Error(`pixel ${column}, ${line} is ${found} instead of ${expected}`);
  console.log(`pixel ${column}, ${line}: Y U V ${found}`);
}

console.log(
  `a tiled buffer of an Intel GPU: modifier "${intelTile4}"; as a number it would be ${Number(intelTile4)}`,
);
