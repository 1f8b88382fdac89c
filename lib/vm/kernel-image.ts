import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from 'node:fs';
import type { Arch } from './arch.js';
import { VmError } from './errors.js';

/** What a kernel's image tells of it. */
export interface KernelImage {
  arch: Arch;
  /** As `uname -r` would print it. */
  release: string;
}

/** Checks a kernel's image, and reads what it is. */
export function readImage(image: string): KernelImage {
  let head: Buffer;
  let stats: Stats;
  try {
    // A FIFO that nobody writes to would be waited for.
    const file = openSync(image, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      stats = fstatSync(file);
      if (!stats.isFile()) throw imageError(`${image} is ${kindOf(stats)}, not a kernel image`);
      head = readFrom(file, 0, 64 * 1024);
      if (head.toString('latin1', 0x38, 0x3c) === 'ARMd') {
        return { arch: 'arm64', release: releaseInArm64(head, { image, file, size: stats.size }) };
      }
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (error instanceof VmError) throw error;
    throw imageError(`the kernel ${image} cannot be read: ${(error as Error).message}`, error);
  }
  return { arch: 'x64', release: releaseInX64(head, { image, size: stats.size }) };
}

function readFrom(file: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, readSync(file, bytes, 0, length, position));
}

/**
 * The header is that of the kernel's document arch/x86/boot: offsets 0x1f1 (sectors of set-up code), 0x1f4 (the rest in 16
 * bytes), 0x202 and 0x20e (the version).
 */
function releaseInX64(read: Buffer, { image, size }: { image: string; size: number }): string {
  const head = Buffer.alloc(64 * 1024);
  read.copy(head);
  if (head.toString('latin1', 0x202, 0x206) !== 'HdrS') {
    throw imageError(`${image} is no kernel image, neither of x86 (bzImage) nor of arm64 (Image)`);
  }
  checkSize(image, size, ((head.readUInt8(0x1f1) || 4) + 1) * 512 + head.readUInt32LE(0x1f4) * 16);
  const at = head.readUInt16LE(0x20e) + 0x200;
  return head.toString('latin1', at, head.indexOf(0, at)).split(' ', 1)[0] as string;
}

/**
 * An arm64 image is the kernel itself, and a program of EFI as well: the table of its sections says where the last ends. The
 * release is in the line that it prints first, somewhere in its data.
 */
function releaseInArm64(
  head: Buffer,
  { image, file, size }: { image: string; file: number; size: number },
): string {
  const pe = head.readUInt32LE(0x3c);
  if (pe > 0 && pe + 24 < head.length && head.toString('latin1', pe, pe + 4) === 'PE\0\0') {
    const table = pe + 24 + head.readUInt16LE(pe + 20);
    for (let at = table; at < table + 40 * head.readUInt16LE(pe + 6); at += 40) {
      checkSize(image, size, head.readUInt32LE(at + 16) + head.readUInt32LE(at + 20));
    }
  }
  const longest = 256;
  const step = 4 * 1024 * 1024;
  for (let position = 0; position < size; position += step) {
    const bytes = readFrom(file, position, step + longest).toString('latin1');
    const release = /Linux version (\d\S*) \(/.exec(bytes)?.[1];
    if (release !== undefined) return release;
  }
  throw imageError(`the kernel ${image} does not say its version`);
}

function checkSize(image: string, size: number, wanted: number): void {
  if (size >= wanted) return;
  throw imageError(
    `the kernel ${image} is corrupt: it has ${size} of its ${wanted} bytes. Fetch or build it again`,
  );
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return 'a folder';
  if (stats.isFIFO()) return 'a FIFO';
  return stats.isSocket() ? 'a socket' : 'a device';
}

function imageError(message: string, cause?: unknown): VmError {
  return new VmError('ERR_DMABUF_VM_KERNEL', message, { cause });
}
