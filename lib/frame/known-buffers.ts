import type { DmaBuf } from '../buffer/dma-buf.js';
import { mostBuffers } from './frame-message.js';

/** A buffer that a receiver has. */
export interface Known {
  readonly inode: number;
  readonly id: number;
  buffer: DmaBuf;
  /** How many planes of frames in flight it holds. */
  users: number;
}

/** The buffers that a receiver has, in the order in which they were last used. */
export class KnownBuffers {
  readonly #list: Known[] = [];
  #nextId = 0;

  /** A buffer that the receiver has; now it is the one that was used last. */
  recall(inode: number, buffer: DmaBuf): Known | undefined {
    const list = this.#list;
    for (let index = 0; index < list.length; index++) {
      const known = list[index] as Known;
      if (known.inode !== inode) continue;
      this.#removeAt(index);
      list[list.length] = known;
      known.buffer = buffer;
      return known;
    }
    return undefined;
  }

  /** A new one; the number of another goes to `forgotten` where it takes its place. */
  introduce(inode: number, buffer: DmaBuf, forgotten: number[]): Known {
    const list = this.#list;
    for (let index = 0; index < list.length && list.length >= mostBuffers; index++) {
      if (this.#forgetAt(index, forgotten)) index--;
    }
    const known = { inode, id: this.#nextId, buffer, users: 0 };
    this.#nextId = (this.#nextId + 1) >>> 0;
    list[list.length] = known;
    return known;
  }

  /** Forgets the one that was used the longest ago, where its owner has closed it: with every frame, one of them. */
  forgetClosed(forgotten: number[]): void {
    if (this.#list[0]?.buffer.closed) this.#forgetAt(0, forgotten);
  }

  #forgetAt(index: number, forgotten: number[]): boolean {
    const { id, users } = this.#list[index] as Known;
    if (users > 0) return false;
    this.#removeAt(index);
    forgotten[forgotten.length] = id;
    return true;
  }

  #removeAt(index: number): void {
    const list = this.#list;
    for (let next = index + 1; next < list.length; next++) list[next - 1] = list[next] as Known;
    list.length--;
  }
}
