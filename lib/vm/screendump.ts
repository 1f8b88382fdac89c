import { accessSync, constants, copyFileSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import { VmError } from './errors.js';
import { Qmp } from './qmp.js';

const displays = 'such as --device VGA, or --device virtio-gpu-pci --modules virtio_gpu';

/** Says no before anything is started. Which of the devices are displays, QEMU knows. */
export function checkScreendump(path: string, devices: readonly string[]): void {
  try {
    accessSync(dirname(path), constants.W_OK);
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw new Error('it is a folder');
  } catch (cause) {
    const message = `screendump (--screendump): ${path} cannot be written: ${(cause as Error).message}`;
    throw new VmError('ERR_DMABUF_VM_OPTION', message, { cause });
  }
  if (devices.length > 0) return;
  const message = `screendump (--screendump): there is no display to take a picture of: it needs one, ${displays}`;
  throw new VmError('ERR_DMABUF_VM_OPTION', message);
}

/** What the guest's display shows, taken by QEMU when the guest asks for it. */
export class Screendump {
  readonly #path: string;
  readonly #qmp: Qmp;
  readonly #folder: string;
  readonly #options: { tell: (line: string) => void; fail: (error: VmError) => void };
  #isTaken = false;

  /** `tell` sends a line to the guest; `fail` ends it. */
  constructor(
    path: string,
    monitor: Duplex,
    options: { tell: (line: string) => void; fail: (error: VmError) => void },
  ) {
    this.#path = path;
    this.#qmp = new Qmp(monitor);
    this.#options = options;
    // QEMU removes the file that it could not write, whatever it is: it gets one of its own.
    this.#folder = mkdtempSync(join(tmpdir(), 'dmabuf-screendump-'));
    // A guest without a display ends now, and not when the command has done its work.
    this.#take().catch((cause: Error) => {
      const format = this.#format === 'png' ? ' A file name that ends in .ppm needs no PNG of QEMU.' : '';
      const message =
        `screendump (--screendump): QEMU has no picture to take: ${cause.message}. It needs a display, ` +
        `${displays}.${format}`;
      options.fail(new VmError('ERR_DMABUF_VM_OPTION', message, { cause }));
    });
  }

  /**
   * Takes a picture when a program in the guest asks for one by this name; at the command's end only if the command has
   * not asked itself.
   */
  async answer(name: string): Promise<void> {
    try {
      if (name !== 'end' || !this.#isTaken) copyFileSync(await this.#take(), this.#path);
      this.#isTaken = true;
      this.#options.tell(`picture ${name} taken`);
    } catch (cause) {
      const reason = (cause as Error).message;
      this.#options.tell(`picture ${name} ${reason.replaceAll('\n', ' ')}`);
      if (name !== 'end') return;
      const message = `screendump (--screendump): ${this.#path} could not be written: ${reason}`;
      this.#options.fail(new VmError('ERR_DMABUF_VM_OUTPUT', message, { cause }));
    }
  }

  /** Once QEMU has ended. */
  close(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  get #format(): 'png' | 'ppm' {
    return /\.ppm$/i.test(this.#path) ? 'ppm' : 'png';
  }

  async #take(): Promise<string> {
    const filename = join(this.#folder, 'picture');
    // QEMU before 7.1 knows no formats, and writes PPM.
    await this.#qmp.execute('screendump', { filename, ...(this.#format === 'png' ? { format: 'png' } : {}) });
    return filename;
  }
}
