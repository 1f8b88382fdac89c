import { constants } from 'node:buffer';
import {
  type Access,
  checkFlag,
  checkInteger,
  directionOf,
  outOfRange,
  readOptions,
  tooLarge,
} from '../check.js';
import { apply } from '../intrinsics.js';
import { native, Register } from '../native.js';
import { brand, own } from '../open-file.js';
import { showDetails } from '../present.js';
import type { OpenBuffer } from './open-buffer.js';
import { retire } from './retired.js';

/** What {@link DmaBuf.map} maps, and for what. */
export interface MapOptions {
  /**
   * The purpose of the mapping; default `'read-write'`. The pages of a writable descriptor are always writable, since a
   * write to a read-only page kills the process.
   */
  access?: Access | undefined;
  /** Where to start, in bytes: a multiple of the page size. Default 0. */
  offset?: number | undefined;
  /** Bytes, at least 1. Default: up to the end of the buffer. */
  length?: number | undefined;
  /**
   * With access `'read'`: map the pages read-only, so that a write ends the process with SIGSEGV. This is the only way
   * to map a read-only descriptor. Default false.
   */
  faultOnWrite?: boolean | undefined;
}

const mapOptions: readonly string[] = ['access', 'offset', 'length', 'faultOnWrite'];

const nothing = new ArrayBuffer(0);
const noBytes = new Uint8Array(nothing);

/** Known to this module alone: nobody else constructs. */
let createMapping: (owner: OpenBuffer, writable: boolean, offset: number, length: number) => DmaBufMapping;

/**
 * A range of a dma-buf in the process's memory, shared with everybody who holds the buffer; {@link DmaBuf.map} makes it.
 *
 * After `unmap()`, `buffer` and `bytes` are empty. Whoever kept them from before, or got the memory through a
 * stream, a transfer or a job on the thread pool, reads zeros and no longer reaches the dma-buf; it never faults. Nor does
 * an access that the exporter answers with SIGBUS: see `lost`.
 */
export class DmaBufMapping implements Disposable {
  static {
    showDetails(DmaBufMapping.prototype, 'DmaBufMapping');
    createMapping = (owner, writable, offset, length) => new DmaBufMapping(owner, writable, offset, length);
  }

  /** Where the range starts in the dma-buf, in bytes. */
  readonly offset: number;
  /** Bytes that were mapped; it stays what it was after `unmap()`. */
  readonly length: number;
  readonly #owner: OpenBuffer;
  #buffer: ArrayBuffer;
  #bytes: Uint8Array;
  #id: number;

  private constructor(owner: OpenBuffer, writable: boolean, offset: number, length: number) {
    this.#owner = own(this, owner, 'DmaBufMapping', 'DmaBuf.map()');
    // Above this the engine ends the process.
    if (length > constants.MAX_LENGTH) throw tooLarge(length);
    this.#buffer = native.map(owner.slot, writable, offset, length);
    this.#id = native.registers[Register.mapping] as number;
    this.#bytes = new Uint8Array(this.#buffer);
    this.offset = offset;
    this.length = length;
  }

  static readonly #of = brand('DmaBufMapping', (self) => (#owner in self ? self : undefined));

  static #closed(self: DmaBufMapping): boolean {
    const mapping = DmaBufMapping.#of(self);
    return mapping.#id === 0 || !mapping.#owner.hasMapping(mapping.#id);
  }

  /** The mapped memory, of `length` bytes; empty once unmapped. */
  get buffer(): ArrayBuffer {
    return DmaBufMapping.#closed(this) ? nothing : this.#buffer;
  }

  /** All of `buffer`. */
  get bytes(): Uint8Array {
    return DmaBufMapping.#closed(this) ? noBytes : this.#bytes;
  }

  /** Whether `unmap()` was called, or the DmaBuf was closed. */
  get closed(): boolean {
    return DmaBufMapping.#closed(this);
  }

  /**
   * Whether the buffer's memory is gone: its exporter answered an access with SIGBUS, as drivers do whose device was
   * removed. The bytes read zeros from then on, and nobody sees what is written.
   */
  get lost(): boolean {
    DmaBufMapping.#closed(this);
    return this.#owner.lost;
  }

  /**
   * Lets go of the dma-buf's memory, and puts zeros in its place. Does nothing the second time.
   *
   * @throws DmaBufError `ENOMEM` when the process has as many mappings as it may have, and the kernel cannot put zeros
   *   there; nothing has changed then, and it can be tried again
   */
  unmap(): void {
    if (DmaBufMapping.#closed(this)) return;
    native.unmap(this.#owner.slot, this.#id);
    this.#id = 0;
    retire(this.#buffer, this.length);
    this.#buffer = nothing;
    this.#bytes = noBytes;
  }

  /** What is mapped, for logs and as JSON. */
  toJSON(): object {
    const closed = DmaBufMapping.#closed(this);
    return { type: 'DmaBufMapping', offset: this.offset, length: this.length, closed };
  }

  /** The same as `unmap()`. */
  [Symbol.dispose](): void {
    apply(DmaBufMapping.prototype.unmap, this, []);
  }
}

/** Maps what a user has asked for. */
export function mapRange(buffer: OpenBuffer, options: MapOptions | undefined): DmaBufMapping {
  const { access = 'read-write', offset = 0, faultOnWrite, ...rest } = readOptions(options, mapOptions);
  const direction = directionOf(access);
  const readOnly = checkFlag(faultOnWrite, 'faultOnWrite');
  if (readOnly && direction !== 1) throw outOfRange('access', "'read' with faultOnWrite", access);
  checkInteger(offset, 'offset', 0, buffer.size - 1);
  if (offset % native.pageSize !== 0) {
    throw outOfRange('offset', `a multiple of the page size, ${native.pageSize}`, offset);
  }
  const { length = buffer.size - offset } = rest;
  checkInteger(length, 'length', 1, buffer.size - offset);
  return createMapping(buffer, !readOnly, offset, length);
}
