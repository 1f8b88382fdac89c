import { illegalConstructor, invalidThis, isObject } from './check.js';
import { native } from './native.js';
import { OpenBuffer } from './open-buffer.js';

/**
 * A range of a dma-buf in the process's memory, shared with everybody who holds the buffer.
 *
 * After `unmap()` the ArrayBuffer is detached (length 0). Memory that escaped from it, for example through
 * `ArrayBuffer.prototype.transfer`, then reads zeros and no longer reaches the buffer; it never faults.
 */
export class DmaBufMapping implements Disposable {
  /** The mapped memory. Length 0 once unmapped. */
  readonly buffer: ArrayBuffer;
  /** All of `buffer`. */
  readonly bytes: Uint8Array;
  /** Where the range starts in the dma-buf, in bytes. */
  readonly offset: number;
  /** Bytes that were mapped. */
  readonly length: number;
  readonly #owner: OpenBuffer;
  #id: number;

  /** @internal */
  constructor(owner: OpenBuffer, writable: boolean, offset: number, length: number) {
    if (!(owner instanceof OpenBuffer)) throw illegalConstructor('DmaBufMapping', 'DmaBuf.map()');
    this.buffer = native.map(owner.handle, writable, offset, length);
    this.#id = native.registers[0] as number;
    this.#owner = owner;
    this.bytes = new Uint8Array(this.buffer);
    this.offset = offset;
    this.length = length;
  }

  static #closed(self: DmaBufMapping): boolean {
    if (!isObject(self) || !(#id in self)) throw invalidThis('DmaBufMapping');
    return self.#id === 0 || self.#owner.handle < 0;
  }

  /** Whether `unmap()` was called, or the DmaBuf was closed. */
  get closed(): boolean {
    return DmaBufMapping.#closed(this);
  }

  /** Detaches the ArrayBuffer and lets go of the buffer's memory. Does nothing the second time. */
  unmap(): void {
    if (DmaBufMapping.#closed(this)) return;
    const id = this.#id;
    this.#id = 0;
    native.unmap(this.#owner.handle, id);
  }

  /** The same as `unmap()`. */
  [Symbol.dispose](): void {
    DmaBufMapping.prototype.unmap.call(this);
  }
}
