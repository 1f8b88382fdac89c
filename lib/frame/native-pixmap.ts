import { bufferOf, type DmaBuf } from '../buffer/dma-buf.js';
import { native } from '../native.js';
import { checkPlanes, type FrameLayout, type PlaneLayout } from './planes.js';

/** One plane of a {@link NativePixmap}. */
export interface NativePixmapPlane extends PlaneLayout {
  /** The descriptor of its buffer, lent: keep the buffer open until the receiver has a copy of its own. */
  fd: number;
}

/** The planes of a picture, as other packages take them. */
export interface NativePixmap {
  /** In the order of the format. */
  planes: NativePixmapPlane[];
  /** In decimal. */
  modifier: string;
}

/** The descriptor, if it still is the buffer's: the receiver would take any other for it. */
function lend(buffer: DmaBuf): number {
  native.verify(bufferOf(buffer).slot);
  return buffer.fd;
}

/**
 * A frame as Electron's `sharedTexture.importSharedTexture()` takes it in `handle.nativePixmap`, and node-av in its
 * `DmaBufPlanes`. It opens nothing and copies nothing.
 *
 * @throws DmaBufError `ERR_DMABUF_CLOSED`, `ERR_DMABUF_STALE_FD` of a buffer
 * @throws RangeError `ERR_OUT_OF_RANGE` for a plane that leaves its buffer
 */
export function toNativePixmap(frame: FrameLayout): NativePixmap {
  const { planes, modifier } = checkPlanes(frame);
  return {
    planes: planes.map(({ buffer, offset, stride, size }) => ({ fd: lend(buffer), stride, offset, size })),
    modifier: String(modifier),
  };
}
