import type { Slot } from '../native.js';
import type { Memfd } from './memfd.js';

/** A range of a memfd, for {@link DmaBuf.fromMemfd}. */
export interface MemfdRange {
  /** Another memfd than the first argument; its descriptor stays yours. */
  memfd?: number | Memfd | undefined;
  /** Bytes, a multiple of the page size. */
  offset: number;
  /** Bytes, a multiple of the page size. */
  size: number;
}

type FromMemfd = (memfd: number | Memfd, pieces: MemfdRange | readonly MemfdRange[] | undefined) => Slot;

/** The slot of a dma-buf over pieces of memfds. The memory wing, which stands above this one, knows how it is made. */
export let createFromMemfd: FromMemfd;

/** Says how {@link DmaBuf.fromMemfd} makes the dma-buf. */
export function provideFromMemfd(create: FromMemfd): void {
  createFromMemfd = create;
}
