import { bufferOf, type DmaBuf } from '../buffer/dma-buf.js';

/** A buffer that was returned to the pool. */
export interface Idle {
  readonly buffer: DmaBuf;
  readonly since: number;
  isWatched: boolean;
}

/** Closes a buffer that the pool no longer lends. An error is of no concern to the caller that is being served. */
export function closeQuietly(buffer: DmaBuf): void {
  try {
    buffer.close();
  } catch {
    // It stays open until it is collected.
  }
}

/** Prepares a buffer for its next user, if no device uses it. */
function prepare(buffer: DmaBuf, zero: boolean): 'ready' | 'busy' | 'unusable' {
  try {
    const isReady = zero ? bufferOf(buffer).tryToClear() : buffer.isReady('read-write');
    return isReady ? 'ready' : 'busy';
  } catch {
    // The last user closed it, or its descriptor, after returning it; or it cannot be cleared. A new buffer is already
    // cleared.
    return 'unusable';
  }
}

/** A pool's idle buffers, in the order in which they were returned. */
export class IdleBuffers {
  readonly #list: Idle[] = [];

  get length(): number {
    return this.#list.length;
  }

  get oldest(): Idle | undefined {
    return this.#list[0];
  }

  at(place: number): Idle {
    return this.#list[place] as Idle;
  }

  add(buffer: DmaBuf, since: number): void {
    this.#list[this.#list.length] = { buffer, since, isWatched: false };
  }

  removeAt(place: number): Idle {
    const idle = this.at(place);
    for (let index = place + 1; index < this.#list.length; index++) this.#list[index - 1] = this.at(index);
    this.#list.length--;
    return idle;
  }

  /** Closes a buffer, if it is still here. */
  drop(idle: Idle): void {
    for (let place = 0; place < this.#list.length; place++) {
      if (this.#list[place] !== idle) continue;
      this.removeAt(place);
      closeQuietly(idle.buffer);
    }
  }

  /**
   * Calls `use` with the buffer that was returned last, among those that no device uses, so that the older ones can be
   * trimmed; returns the result. The buffer is removed from the list after `use`, which may throw. Buffers that cannot be
   * used are closed.
   */
  takeReady<T>(zero: boolean, use: (buffer: DmaBuf) => T): T | undefined {
    for (let place = this.#list.length - 1; place >= 0; place--) {
      const { buffer } = this.at(place);
      const state = prepare(buffer, zero);
      if (state === 'busy') continue;
      if (state === 'unusable') {
        this.removeAt(place);
        closeQuietly(buffer);
        continue;
      }
      const taken = use(buffer);
      this.removeAt(place);
      return taken;
    }
    return undefined;
  }
}
