import type { DmaBuf } from '../buffer/dma-buf.js';

/** A buffer that a receiver keeps for frames to come. */
export interface KeptBuffer {
  readonly id: number;
  readonly buffer: DmaBuf;
  /** How many planes of frames that were not returned it holds. */
  users: number;
  /** Whether it is to be closed when there are none. */
  isForgotten: boolean;
}

/**
 * The buffers that a receiver keeps, by the sender's numbers. Not a Map, whose methods programs may have replaced: see
 * intrinsics.ts.
 */
export class KeptBuffers {
  readonly #list: KeptBuffer[] = [];

  get length(): number {
    return this.#list.length;
  }

  find(id: number): KeptBuffer | undefined {
    for (let index = 0; index < this.#list.length; index++) {
      if (this.#list[index]?.id === id) return this.#list[index];
    }
    return undefined;
  }

  add(id: number, buffer: DmaBuf): KeptBuffer {
    const kept = { id, buffer, users: 0, isForgotten: false };
    this.#list[this.#list.length] = kept;
    return kept;
  }

  /** Closes a buffer, now or when no frame holds it. */
  forget(id: number): void {
    const list = this.#list;
    for (let index = 0; index < list.length; index++) {
      const kept = list[index] as KeptBuffer;
      if (kept.id !== id) continue;
      list[index] = list[list.length - 1] as KeptBuffer;
      list.length--;
      kept.isForgotten = true;
      if (kept.users === 0) kept.buffer.close();
      return;
    }
  }

  forgetAll(): void {
    while (this.#list.length > 0) this.forget((this.#list[0] as KeptBuffer).id);
  }

  /** A frame no longer holds it. */
  static giveUp(kept: KeptBuffer): void {
    kept.users--;
    if (kept.users === 0 && kept.isForgotten) kept.buffer.close();
  }
}
