import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from 'node:fs';
import { VmError } from './errors.js';

/**
 * Checks an x86 kernel image and reads its version, as `uname -r` would print it. The header is that of the kernel's document
 * arch/x86/boot: offsets 0x1f1 (sectors of set-up code), 0x1f4 (the rest in 16 bytes), 0x202 and 0x20e (the version).
 */
export function kernelRelease(image: string): string {
  const head = Buffer.alloc(64 * 1024);
  let stats: Stats;
  try {
    // A FIFO that nobody writes to would be waited for.
    const file = openSync(image, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      stats = fstatSync(file);
      if (stats.isFile()) readSync(file, head, 0, head.length, 0);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw imageError(`the kernel ${image} cannot be read: ${(error as Error).message}`, error);
  }
  if (!stats.isFile()) throw imageError(`${image} is ${kindOf(stats)}, not a kernel image`);
  if (head.toString('latin1', 0x202, 0x206) !== 'HdrS') {
    throw imageError(`${image} is not an x86 kernel image (bzImage)`);
  }
  const size = ((head.readUInt8(0x1f1) || 4) + 1) * 512 + head.readUInt32LE(0x1f4) * 16;
  if (stats.size < size) {
    throw imageError(
      `the kernel ${image} is corrupt: it has ${stats.size} of its ${size} bytes. Fetch or build it again`,
    );
  }
  const at = head.readUInt16LE(0x20e) + 0x200;
  return head.toString('latin1', at, head.indexOf(0, at)).split(' ', 1)[0] as string;
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return 'a folder';
  if (stats.isFIFO()) return 'a FIFO';
  return stats.isSocket() ? 'a socket' : 'a device';
}

function imageError(message: string, cause?: unknown): VmError {
  return new VmError('ERR_DMABUF_VM_KERNEL', message, { cause });
}
