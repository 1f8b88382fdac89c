// TypeScript 6 and later load the types of Node.js only for who asks, and the declarations need them.
/// <reference types="node" preserve="true" />

/**
 * Pictures in dma-bufs: where the planes of a pixel format are, for devices and for other packages.
 *
 * @module dmabuf/frame
 */

export { type BufferLayout, frameOf, type LayoutOptions, layoutOf } from './layout.js';
export { type NativePixmap, type NativePixmapPlane, toNativePixmap } from './native-pixmap.js';
export type { FrameLayout, FramePlane, PlaneLayout } from './planes.js';
export { type Rectangle, type RgbaOptions, toRgba } from './to-rgba.js';
