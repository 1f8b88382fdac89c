import { constants } from 'node:buffer';
import { accessOf, tooLarge } from '../check.js';
import type { AllocationAttempt, CallSite } from '../errors.js';
import { freeze, max } from '../intrinsics.js';
import { native, Register, type Slot } from '../native.js';
import { OpenFile } from '../open-file.js';
import { traceAsync, type WaitTrace, waitTracing } from '../tracing.js';
import type { Limits } from '../wait.js';
import type { AccessTrace } from './access-tracing.js';
import './advice.js';
import { type DmaBufInfo, toInfo } from './fdinfo.js';

const noAttempts: readonly AllocationAttempt[] = freeze([]);

/** The open dma-buf that a DmaBuf, its mappings and its CPU accesses share. */
export class OpenBuffer extends OpenFile {
  /** Which source served the allocation. */
  readonly source: string | undefined;
  /** The sources that were passed over before one served. */
  attempts: readonly AllocationAttempt[];
  private knownInode: number;
  private knownSize: number; // 0 until the addon has measured the buffer
  /** Whether the buffer was lost before it was closed. */
  private knownLost: boolean;
  /** Whether `close()` or `release()` failed: some mappings may be gone, and others not. */
  private halfClosed: boolean;
  private bytes: Uint8Array | undefined;
  /** CPU accesses that were begun and not ended, by direction. */
  private accesses: number[] | undefined;

  constructor(slot: Slot, source?: string, place?: number) {
    super(slot, 'DmaBuf', place);
    this.source = source;
    this.attempts = noAttempts;
    this.knownInode = 0;
    this.knownSize = 0;
    this.knownLost = false;
    this.halfClosed = false;
    this.bytes = undefined;
    this.accesses = undefined;
  }

  get inode(): number {
    if (this.knownSize === 0) this.checkOpen().measure();
    return this.knownInode;
  }

  /** Bytes. */
  get size(): number {
    if (this.knownSize === 0) this.checkOpen().measure();
    return this.knownSize;
  }

  /** Whether the exporter answered an access with SIGBUS. */
  get lost(): boolean {
    return this.slot < 0 ? this.knownLost : native.isLost(this.slot);
  }

  /** Whether a mapping that was not unmapped by itself is still there. */
  hasMapping(id: number): boolean {
    return this.slot >= 0 && (!this.halfClosed || native.isMapped(this.slot, id));
  }

  /** From fdinfo. */
  info(): DmaBufInfo {
    const info = toInfo(native.info(this.slot));
    if (info.inode === 0) info.inode = this.inode;
    return info;
  }

  /** After closing, with what was known before. */
  override show(): object {
    const known = this.slot < 0 && this.knownSize > 0 ? { inode: this.knownInode, size: this.knownSize } : {};
    return super.show(this.source === undefined ? known : { ...known, source: this.source });
  }

  /** What identifies the buffer, for subscribers: nothing if the kernel does not report it. */
  private identity(): { inode?: number; size?: number } {
    try {
      return { inode: this.inode, size: this.size };
    } catch {
      return {};
    }
  }

  /** What subscribers are told about an access. */
  traceOf(operation: AccessTrace['operation'], direction: number): AccessTrace {
    return { operation, access: accessOf(direction), ...this.identity() };
  }

  private measure(): void {
    native.measure(this.slot);
    this.knownInode = native.registers[Register.inode] as number;
    this.knownSize = native.registers[Register.size] as number;
  }

  /** The bytes of the whole buffer; mapped at first use, and again after the ArrayBuffer was transferred. */
  wholeBytes(): Uint8Array {
    if (this.bytes === undefined || this.bytes.length === 0) {
      // For more bytes, the engine would end the process.
      if (this.size > constants.MAX_LENGTH) throw tooLarge(this.size);
      this.bytes = new Uint8Array(native.mapWhole(this.slot));
    }
    return this.bytes;
  }

  /** Begins CPU access to the whole buffer, and returns its bytes. */
  begin(direction: number): Uint8Array {
    const bytes = this.wholeBytes();
    native.beginCpuAccess(this.slot, direction);
    this.count(direction);
    return bytes;
  }

  /** The same if there is no fence to wait for; undefined if one has not signalled. */
  tryBegin(direction: number): Uint8Array | undefined {
    const bytes = this.wholeBytes();
    if (!native.tryBeginCpuAccess(this.slot, direction)) return undefined;
    this.count(direction);
    return bytes;
  }

  /**
   * Waits, through the event loop, until the fences that matter for an access have signalled. `siteOf` remembers the
   * user's call if it has to wait.
   */
  ready(direction: number, limits: Limits, siteOf: () => CallSite): Promise<void> {
    if (waitTracing.hasSubscribers) {
      const { timeout } = limits;
      const trace: WaitTrace = {
        operation: 'ready',
        access: accessOf(direction),
        ...this.identity(),
        timeout,
      };
      return traceAsync(waitTracing, trace, () => this.readyNow(direction, limits, siteOf));
    }
    return this.readyNow(direction, limits, siteOf);
  }

  private async readyNow(direction: number, limits: Limits, siteOf: () => CallSite): Promise<void> {
    if (native.isReady(this.slot, direction)) return;
    await this.waitForFences(direction, limits, siteOf());
  }

  private waitForFences(direction: number, limits: Limits, site: CallSite): Promise<void> {
    return this.wait(direction, limits, site, "waiting for the buffer's fences");
  }

  /** Begins CPU access once there is no fence left to wait for, whatever fences other processes add meanwhile. */
  async beginReady(direction: number, { signal, timeout }: Limits, site: CallSite): Promise<Uint8Array> {
    const start = performance.now();
    let left = timeout;
    for (;;) {
      await this.waitForFences(direction, { signal, timeout: left }, site);
      if (timeout !== undefined) left = max(0, timeout - (performance.now() - start));
      const bytes = this.checkOpen().tryBegin(direction);
      if (bytes !== undefined) return bytes;
    }
  }

  /** Clears the buffer if no device uses it; otherwise returns false. Never waits. */
  tryToClear(): boolean {
    const bytes = this.tryBegin(2);
    if (bytes === undefined) return false;
    try {
      bytes.fill(0);
    } finally {
      this.end(2);
    }
    return true;
  }

  private count(direction: number): void {
    this.accesses ??= [0, 0, 0, 0];
    (this.accesses[direction] as number)++;
  }

  end(direction: number): void {
    native.endCpuAccess(this.slot, direction);
    // If that fails, closing tries once more.
    (this.accesses as number[])[direction] = ((this.accesses as number[])[direction] as number) - 1;
  }

  /** Ends the CPU accesses, so that a device sees what was written. */
  protected override leave(): void {
    if (this.accesses !== undefined) this.endAll();
    this.halfClosed = true;
  }

  override close(): boolean {
    const lost = super.close();
    if (lost) this.knownLost = true;
    this.bytes = undefined;
    return lost;
  }

  override release(): number {
    this.knownLost = this.checkOpen().lost;
    const fd = super.release();
    this.bytes = undefined;
    return fd;
  }

  private endAll(): void {
    const accesses = this.accesses as number[];
    for (let direction = 1; direction <= 3; direction++) {
      for (let count = accesses[direction] as number; count > 0; count--) {
        try {
          this.end(direction);
        } catch {
          // The descriptor belongs to another owner by now. Closing continues: it must not stop half-way.
        }
      }
    }
    this.accesses = undefined;
  }
}
