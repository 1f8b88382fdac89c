import { checkInteger, checkName, checkSize, isObject, outOfRange, readOptions } from '../check.js';
import { native, type Slot } from '../native.js';
import { brand, OpenFile, own } from '../open-file.js';
import { showDetails } from '../present.js';

/** The memfd that {@link Memfd.create} or {@link createMemfd} makes. */
export interface MemfdOptions {
  /** The name in `/proc/<pid>/maps`: at most 31 bytes of UTF-8, without NUL. Default `'dmabuf'`. */
  name?: string | undefined;
  /**
   * Use huge pages of this many bytes, a power of two of which the kernel has reserved some; `size` must be a multiple
   * of it. Default 0: ordinary pages.
   */
  hugePageSize?: number | undefined;
}

const memfdOptions: readonly string[] = ['name', 'hugePageSize'];

/** Checks a request for a memfd. */
export function checkMemfd(
  size: number,
  options: MemfdOptions | undefined,
): { name: string; hugePageSize: number } {
  checkSize(size);
  const { name = 'dmabuf', hugePageSize = 0 } = readOptions(options, memfdOptions);
  checkInteger(hugePageSize, 'hugePageSize', 0, 2 ** 40);
  if (Math.log2(hugePageSize || 1) % 1 !== 0)
    throw outOfRange('hugePageSize', 'a power of two', hugePageSize);
  const page = hugePageSize || native.pageSize;
  if (size % page !== 0) throw outOfRange('size', `a multiple of the page size, ${page}`, size);
  return { name: checkName(name), hugePageSize };
}

/** Whether a value is a Memfd of this copy of the package. Unlike instanceof, this cannot be deceived by a proxy. */
export let isMemfd: (value: unknown) => value is Memfd;

/** The descriptor of an open Memfd; throws if it is closed, or if it now refers to another file. */
export let fdOfMemfd: (memfd: Memfd) => number;

/**
 * A memfd that {@link DmaBuf.fromMemfd} accepts: memory behind a file descriptor, sized, and sealed against shrinking
 * (memfd_create(2), Linux 3.17). It takes no memory until bytes are written to it or a dma-buf is made of it.
 *
 * The object owns its descriptor, like a {@link DmaBuf}; dma-bufs that were made of it keep its pages.
 *
 * @example
 * using memfd = Memfd.create(1 << 16);
 * using buffer = DmaBuf.fromMemfd(memfd, { offset: 0, size: 4096 });
 */
export class Memfd implements Disposable {
  static {
    showDetails(Memfd.prototype, 'Memfd');
    isMemfd = (value): value is Memfd => isObject(value) && #file in value;
    fdOfMemfd = (memfd) => {
      const file = memfd.#file.checkOpen();
      native.verify(file.slot);
      return file.fd;
    };
  }

  readonly #file: OpenFile;
  readonly #size: number;

  private constructor(file: OpenFile, size: number) {
    this.#file = own(this, file, 'Memfd', 'Memfd.create()');
    this.#size = size;
  }

  /**
   * Makes a memfd.
   *
   * @param size The size in bytes, a multiple of the page size.
   * @throws DmaBufError `EMFILE`, `ENOMEM`, `ENODEV` or `EINVAL` for a huge page size that the kernel does not have
   */
  static create(size: number, options?: MemfdOptions): Memfd {
    const { name, hugePageSize } = checkMemfd(size, options);
    const slot: Slot = native.createMemfd(name, size, hugePageSize, true);
    return new Memfd(new OpenFile(slot, 'Memfd'), size);
  }

  static readonly #of = brand('Memfd', (self) => (#file in self ? self : undefined));

  /** The file descriptor, lent: do not close it. -1 once closed. */
  get fd(): number {
    return Memfd.#of(this).#file.fd;
  }

  /** The requested size in bytes; if the file grows, this does not change. */
  get size(): number {
    return Memfd.#of(this).#size;
  }

  /** Whether the object has given up its descriptor. */
  get closed(): boolean {
    return Memfd.#of(this).#file.closed;
  }

  /** Gives the descriptor to the caller, who has to close it. The object is closed afterwards. */
  release(): number {
    return Memfd.#of(this).#file.release();
  }

  /** Closes the descriptor. Dma-bufs of its pages keep these. A second call does nothing. */
  close(): void {
    Memfd.#of(this).#file.close();
  }

  /** What the memfd is, for logs and as JSON. */
  toJSON(): object {
    const memfd = Memfd.#of(this);
    return memfd.#file.show({ size: memfd.#size });
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    Memfd.#of(this).#file.close();
  }
}
