import { fstatSync, statfsSync } from 'node:fs';
import { constants } from 'node:os';
import { type MemfdRange, provideFromMemfd } from '../buffer/from-memfd.js';
import { checkMemfd, fdOfMemfd, isMemfd, type Memfd, type MemfdOptions } from '../buffer/memfd.js';
import { checkFd, checkInteger, invalidType, outOfRange, readOptions } from '../check.js';
import { DmaBufError } from '../errors.js';
import { isArray, itemsOf } from '../intrinsics.js';
import { native, Register, type Slot } from '../native.js';
import { textOf } from '../text-file.js';
import './advice.js';
import { withDeviceAdvice } from './device-advice.js';
import { udmabufDevice } from './device-files.js';
import { guardMemory } from './memory-guard.js';

const memfdRange: readonly string[] = ['memfd', 'offset', 'size'];

const sealShrink = 0x2;
const sealWrite = 0x8;
const sealFutureWrite = 0x10;

/** Refuses what the kernel would refuse with a bare EINVAL, and says why. */
function refuse(why: string, hint?: string): never {
  throw new DmaBufError(`EINVAL: invalid argument, UDMABUF_CREATE: ${why}`, {
    code: 'EINVAL',
    errno: -constants.errno.EINVAL,
    syscall: 'UDMABUF_CREATE',
    hint,
  });
}

/**
 * The present limit of the udmabuf module, which root may change at any time. Infinity if there is none, as for
 * size_limit_mb since Linux 7.3 (the largest int), and if it cannot be read: the kernel will check.
 */
export function udmabufLimit(name: 'size_limit_mb' | 'list_limit'): number {
  const value = Number.parseInt(textOf(`/sys/module/udmabuf/parameters/${name}`) ?? '', 10);
  return value >= 0 && value < 2 ** 31 - 1 ? value : Number.POSITIVE_INFINITY;
}

/** Checks the module's limit on one buffer, for which the kernel only answers EINVAL. */
export function checkTotal(size: number): void {
  const megabytes = udmabufLimit('size_limit_mb');
  if (size > megabytes * 2 ** 20) {
    refuse(
      `${size} bytes exceed the module's limit of ${megabytes} MiB`,
      `Raise it, as root: echo ${Math.ceil(size / 2 ** 20)} > /sys/module/udmabuf/parameters/size_limit_mb`,
    );
  }
}

/** The descriptor of a memfd that is given by its number or its owner. */
function fdOf(memfd: unknown): number {
  return isMemfd(memfd) ? fdOfMemfd(memfd) : checkFd(memfd, 'memfd');
}

/** A memfd's size in bytes; refuses a memfd that udmabuf would not accept. */
function sizeOfMemfd(fd: number): number {
  let seals: number;
  try {
    seals = native.seals(fd);
  } catch (error) {
    if (!(error instanceof DmaBufError) || error.code !== 'EINVAL') throw error;
    refuse(`descriptor ${fd} is not a memfd`);
  }
  const size = native.registers[Register.size] as number;
  if ((seals & sealShrink) === 0) {
    refuse(
      `memfd ${fd} could still shrink`,
      'Create it with MFD_ALLOW_SEALING and seal it with F_SEAL_SHRINK, or use createMemfd()',
    );
  }
  if ((seals & (sealWrite | sealFutureWrite)) !== 0) {
    refuse(`memfd ${fd} is sealed against writing (F_SEAL_WRITE), which a dma-buf would circumvent`);
  }
  return size;
}

function checkPiece(piece: MemfdRange, first: number, sizes: Map<number, number>): [number, number, number] {
  if (typeof piece !== 'object' || piece === null) throw invalidType('pieces', 'MemfdRanges', piece);
  const range = readOptions(piece, memfdRange);
  const fd = range.memfd === undefined ? first : fdOf(range.memfd);
  const size = sizes.get(fd) ?? sizeOfMemfd(fd);
  sizes.set(fd, size);
  const offset = checkInteger(range.offset, 'offset', 0, Number.MAX_SAFE_INTEGER);
  const length = checkInteger(range.size, 'size', 1, Number.MAX_SAFE_INTEGER);
  for (const [name, value] of [
    ['offset', offset],
    ['size', length],
  ] as const) {
    if (value % native.pageSize !== 0) {
      throw outOfRange(name, `a multiple of the page size, ${native.pageSize}`, value);
    }
  }
  if (offset + length > size) {
    throw outOfRange('size', `such that the range stays within the memfd's ${size} bytes`, length);
  }
  return [fd, offset, length];
}

const hugetlbfs = 0x958458f6;

/**
 * How many bytes of pages the kernel has to allocate when it pins these pieces: a memfd has no pages where nothing was
 * written. Huge pages were reserved before.
 */
function missingPages(
  pieces: readonly [number, number, number][],
  sizes: ReadonlyMap<number, number>,
): number {
  let missing = 0;
  for (const [fd, size] of sizes) {
    const wanted = pieces.reduce((sum, [memfd, , bytes]) => sum + (memfd === fd ? bytes : 0), 0);
    if (wanted === 0) continue;
    const absent = Math.min(wanted, Math.max(0, size - fstatSync(fd).blocks * 512));
    if (absent > 0 && !isOfHugePages(fd)) missing += absent;
  }
  return missing;
}

function isOfHugePages(memfd: number): boolean {
  try {
    return statfsSync(`/proc/self/fd/${memfd}`).type === hugetlbfs;
  } catch {
    return false;
  }
}

/** Makes a dma-buf of pieces of memfds; returns its slot. */
function createFromMemfd(
  memfd: number | Memfd,
  pieces: MemfdRange | readonly MemfdRange[] | undefined,
): Slot {
  const first = fdOf(memfd);
  const whole = sizeOfMemfd(first);
  const sizes = new Map([[first, whole]]);
  if (pieces === undefined && whole === 0) refuse('the memfd is empty');
  if (pieces === undefined && whole % native.pageSize !== 0) {
    refuse(`the memfd's size, ${whole}, is no multiple of the page size, ${native.pageSize}`);
  }
  const ranges: readonly MemfdRange[] =
    pieces === undefined
      ? [{ offset: 0, size: whole }]
      : isArray(pieces)
        ? itemsOf(pieces as readonly MemfdRange[])
        : [pieces as MemfdRange];
  if (ranges.length === 0) throw outOfRange('pieces', 'a list of at least one range', ranges);
  const checked = ranges.map((piece) => checkPiece(piece, first, sizes));
  const limit = udmabufLimit('list_limit');
  if (checked.length > limit) {
    refuse(`${checked.length} pieces exceed the module's limit of ${limit} (parameter list_limit)`);
  }
  checkTotal(checked.reduce((total, [, , size]) => total + size, 0));
  guardMemory(missingPages(checked, sizes), 'charged', 'Ask for less, or free some');
  return withDeviceAdvice(udmabufDevice, 'udmabuf', () =>
    native.createUdmabuf(udmabufDevice, Float64Array.from(checked.flat())),
  );
}

provideFromMemfd(createFromMemfd);

/**
 * Makes a memfd that {@link DmaBuf.fromMemfd} accepts: sized, and sealed against shrinking (memfd_create(2), Linux 3.17).
 *
 * @param size The size in bytes, a multiple of the page size.
 * @returns The descriptor, which is close-on-exec; you must close it. {@link Memfd.create} returns an object that owns it.
 * @throws DmaBufError `EMFILE`, `ENOMEM`, `ENODEV` or `EINVAL` for a huge page size that the kernel does not have
 */
export function createMemfd(size: number, options?: MemfdOptions): number {
  const { name, hugePageSize } = checkMemfd(size, options);
  return native.createMemfd(name, size, hugePageSize, false);
}
