import { VmError } from './errors.js';
import { findProgram } from './process.js';
import { QEMU } from './qemu.js';

/** The programs a guest is made with. */
export interface Tools {
  qemu: string;
  /** A busybox that needs no libraries. */
  busybox: string;
}

/** Finds the programs needed, installing what is missing. */
export async function provideTools(_options: {
  progress: (message: string) => void;
  signal: AbortSignal | undefined;
}): Promise<Tools> {
  const qemu = findProgram(QEMU);
  const busybox = findProgram('busybox');
  if (qemu === undefined || busybox === undefined) throw new VmError('ERR_DMABUF_VM_TOOL', 'missing');
  return { qemu, busybox };
}
