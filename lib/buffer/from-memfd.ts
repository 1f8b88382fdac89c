import type { Slot } from '../native.js';
import type { Memfd } from './memfd.js';

/** A range of a memfd, for {@link DmaBuf.fromMemfd}. */
export interface MemfdRange {
  /** A memfd other than the first argument; its descriptor stays yours. */
  memfd?: number | Memfd | undefined;
  /** Bytes, a multiple of the page size. */
  offset: number;
  /** Bytes, a multiple of the page size. */
  size: number;
}

type FromMemfd = (memfd: number | Memfd, pieces: MemfdRange | readonly MemfdRange[] | undefined) => Slot;

/** Returns the slot of a dma-buf over ranges of memfds. The memory wing, which is above this one, provides it. */
export let createFromMemfd: FromMemfd;

/** Sets the function by which {@link DmaBuf.fromMemfd} makes the dma-buf. */
export function provideFromMemfd(create: FromMemfd): void {
  createFromMemfd = create;
}
