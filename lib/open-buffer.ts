import { closedError } from './check.js';
import { guard, type Sentinel, unguard } from './handle.js';
import { type NativeHandle, native } from './native.js';

/** The open dma-buf that a DmaBuf, its mappings and its CPU accesses share. */
export class OpenBuffer {
  /** -1 once closed. */
  handle: NativeHandle;
  /** -1 once closed. */
  fd: number;
  readonly inode: number;
  /** Bytes. */
  readonly size: number;
  /** The whole buffer, from the first CPU access until close. */
  #bytes: Uint8Array | undefined = undefined;
  /** CPU accesses that were begun and not ended, by direction. */
  readonly #accesses: [number, number, number, number] = [0, 0, 0, 0];
  #sentinel: Sentinel;

  /** For a handle that the addon has just yielded: the registers still describe it. */
  constructor(handle: NativeHandle) {
    const registers = native.registers;
    this.handle = handle;
    this.fd = registers[0] as number;
    this.inode = registers[1] as number;
    this.size = registers[2] as number;
    this.#sentinel = guard(handle, 'DmaBuf');
  }

  /** The bytes of the whole buffer; mapped at first use, and again when the ArrayBuffer was transferred away. */
  #wholeBytes(): Uint8Array {
    if (this.#bytes === undefined || this.#bytes.length === 0) {
      this.#bytes = new Uint8Array(native.mapWhole(this.handle));
    }
    return this.#bytes;
  }

  /** Begins CPU access to the whole buffer, and returns its bytes. */
  begin(direction: number): Uint8Array {
    const bytes = this.#wholeBytes();
    native.beginCpuAccess(this.handle, direction);
    (this.#accesses[direction] as number)++;
    return bytes;
  }

  end(direction: number): void {
    (this.#accesses[direction] as number)--;
    native.endCpuAccess(this.handle, direction);
  }

  /** Closes; false when that had been done. Ends the CPU accesses first, so that a device sees what was written. */
  close(): boolean {
    if (this.handle < 0) return false;
    this.#endAll();
    native.close(this.handle);
    this.#forget();
    return true;
  }

  /** Gives the descriptor away. */
  release(): number {
    const fd = native.release(this.handle);
    this.#forget();
    return fd;
  }

  #endAll(): void {
    for (let direction = 1; direction <= 3; direction++) {
      while ((this.#accesses[direction] as number) > 0) {
        try {
          this.end(direction);
        } catch {
          // The descriptor is no longer ours. Closing goes on: it must not fail half-way.
        }
      }
    }
  }

  #forget(): void {
    this.handle = -1;
    this.fd = -1;
    this.#bytes = undefined;
    unguard(this.#sentinel);
  }
}

/** Throws `ERR_DMABUF_CLOSED` for a closed buffer. */
export function checkOpen(buffer: OpenBuffer): OpenBuffer {
  if (buffer.handle < 0) throw closedError('DmaBuf');
  return buffer;
}
