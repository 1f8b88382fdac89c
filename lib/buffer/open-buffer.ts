import { constants } from 'node:buffer';
import { closedError, tooLarge } from '../check.js';
import type { CallSite } from '../errors.js';
import { type Limits, PendingWaits } from '../fence/wait.js';
import { guard, noSentinel, type Sentinel, unguard } from '../handle.js';
import { type NativeHandle, native } from '../native.js';
import './advice.js';

/** The open dma-buf that a DmaBuf, its mappings and its CPU accesses share. */
export class OpenBuffer {
  // Plain fields, set in the constructor: no user ever holds this object, and one is made for every buffer.
  /** -1 once closed. */
  handle: NativeHandle;
  private knownFd: number;
  private knownInode: number;
  private knownSize: number; // 0 until the addon has measured the buffer
  /** Whether the buffer was lost before it was closed. */
  private knownLost: boolean;
  /** Whether `close()` or `release()` failed: some mappings may be gone, and others not. */
  private halfClosed: boolean;
  private bytes: Uint8Array | undefined;
  /** CPU accesses that were begun and not ended, by direction. */
  private accesses: number[] | undefined;
  private sentinel: Sentinel; // of nothing once closed
  private waits: PendingWaits | undefined;

  constructor(handle: NativeHandle, place: number) {
    this.handle = handle;
    this.knownFd = -1;
    this.knownInode = 0;
    this.knownSize = 0;
    this.knownLost = false;
    this.halfClosed = false;
    this.bytes = undefined;
    this.accesses = undefined;
    this.sentinel = guard(handle, 'DmaBuf', place);
    this.waits = undefined;
  }

  /** -1 once closed. */
  get fd(): number {
    if (this.knownFd < 0 && this.handle >= 0) {
      native.describe(this.handle);
      this.knownFd = native.registers[0] as number;
    }
    return this.knownFd;
  }

  get inode(): number {
    if (this.knownSize === 0) checkOpen(this).measure();
    return this.knownInode;
  }

  /** Bytes. */
  get size(): number {
    if (this.knownSize === 0) checkOpen(this).measure();
    return this.knownSize;
  }

  /** Whether the exporter answered an access with SIGBUS. */
  get lost(): boolean {
    return this.handle < 0 ? this.knownLost : native.isLost(this.handle);
  }

  /** Whether a mapping that was not unmapped by itself is still there. */
  hasMapping(id: number): boolean {
    return this.handle >= 0 && (!this.halfClosed || native.isMapped(this.handle, id));
  }

  /** What was found out while it was open. */
  get known(): { inode?: number; size?: number } {
    return this.knownSize === 0 ? {} : { inode: this.knownInode, size: this.knownSize };
  }

  private measure(): void {
    native.measure(this.handle);
    this.knownInode = native.registers[1] as number;
    this.knownSize = native.registers[2] as number;
  }

  /** The bytes of the whole buffer; mapped at first use, and again when the ArrayBuffer was transferred away. */
  wholeBytes(): Uint8Array {
    if (this.bytes === undefined || this.bytes.length === 0) {
      // Above this the engine ends the process.
      if (this.size > constants.MAX_LENGTH) throw tooLarge(this.size);
      this.bytes = new Uint8Array(native.mapWhole(this.handle));
    }
    return this.bytes;
  }

  /** Begins CPU access to the whole buffer, and returns its bytes. */
  begin(direction: number): Uint8Array {
    const bytes = this.wholeBytes();
    native.beginCpuAccess(this.handle, direction);
    this.count(direction);
    return bytes;
  }

  /** The same where no fence has to be waited for; undefined where one has not signalled. */
  tryBegin(direction: number): Uint8Array | undefined {
    const bytes = this.wholeBytes();
    if (!native.tryBeginCpuAccess(this.handle, direction)) return undefined;
    this.count(direction);
    return bytes;
  }

  private count(direction: number): void {
    this.accesses ??= [0, 0, 0, 0];
    (this.accesses[direction] as number)++;
  }

  end(direction: number): void {
    native.endCpuAccess(this.handle, direction);
    // Where that fails, closing tries once more.
    (this.accesses as number[])[direction] = ((this.accesses as number[])[direction] as number) - 1;
  }

  /** Waits, through the event loop, until the fences that matter for an access have signalled. */
  wait(direction: number, limits: Limits, site: CallSite): Promise<void> {
    this.waits ??= new PendingWaits();
    return this.waits.run<void>(
      (done) => {
        const wait = native.poll(this.handle, direction, (errno) => done(errno, undefined));
        return () => native.cancelPoll(wait);
      },
      limits,
      site,
      "waiting for the buffer's fences",
    );
  }

  /**
   * Closes; false when that had been done. Ends the CPU accesses first, so that a device sees what was written. When the
   * kernel does not let go of a mapping, throws and stays open.
   */
  close(): boolean {
    this.waits?.rejectAll('DmaBuf');
    const handle = this.handle; // read now: whoever was told may have closed it
    if (handle < 0) return false;
    if (this.accesses !== undefined) this.endAll();
    this.halfClosed = true;
    if (native.close(handle) === true) this.knownLost = true;
    this.handle = -1;
    this.sentinel.record.handle = -1;
    this.forget(handle);
    return true;
  }

  /** Gives the descriptor away. */
  release(): number {
    native.verify(this.handle);
    this.waits?.rejectAll('DmaBuf');
    const { handle } = checkOpen(this);
    if (this.accesses !== undefined) this.endAll();
    this.halfClosed = true;
    this.knownLost = native.isLost(handle);
    const fd = native.release(handle);
    this.handle = -1;
    this.sentinel.record.handle = -1;
    this.forget(handle);
    native.unclaimed[0] = 0;
    return fd;
  }

  private endAll(): void {
    const accesses = this.accesses as number[];
    for (let direction = 1; direction <= 3; direction++) {
      for (let count = accesses[direction] as number; count > 0; count--) {
        try {
          this.end(direction);
        } catch {
          // The descriptor is no longer ours. Closing goes on: it must not fail half-way.
        }
      }
    }
    this.accesses = undefined;
  }

  private forget(handle: NativeHandle): void {
    this.knownFd = -1;
    this.bytes = undefined;
    unguard(this.sentinel, handle);
    this.sentinel = noSentinel;
  }
}

/** Throws `ERR_DMABUF_CLOSED` for a closed buffer. */
export function checkOpen(buffer: OpenBuffer): OpenBuffer {
  if (buffer.handle < 0) throw closedError('DmaBuf');
  return buffer;
}
