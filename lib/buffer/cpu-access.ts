import { type Access, directionOf, invalidType, isObject } from '../check.js';
import { callSite } from '../errors.js';
import { apply, assign } from '../intrinsics.js';
import { brand, own } from '../open-file.js';
import { showDetails } from '../present.js';
import { isTracedSync, traceAsync } from '../tracing.js';
import { checkWaitOptions, type Limits, type WaitOptions } from '../wait.js';
import { accessTracing } from './access-tracing.js';
import type { OpenBuffer } from './open-buffer.js';

/** Known only to this file, so that no other code can construct one. */
let createCpuAccess: (buffer: OpenBuffer, bytes: Uint8Array, access: Access, direction: number) => CpuAccess;

/**
 * The time between DMA_BUF_IOCTL_SYNC START and END (Linux 4.6), in which the CPU may use a buffer's bytes. `end()`, the
 * end of a `using` block, or closing the buffer sends END.
 *
 * @example
 * using access = buffer.cpuAccessSync('write');
 * access.bytes.fill(0);
 */
export class CpuAccess implements Disposable {
  static {
    showDetails(CpuAccess.prototype, 'CpuAccess');
    createCpuAccess = (buffer, bytes, access, direction) => new CpuAccess(buffer, bytes, access, direction);
  }

  /**
   * The whole buffer. It stays mapped after `end()`, but what devices write later may not be visible here, and what is
   * written here may not reach them. After the buffer was closed, it reads as zeros.
   */
  readonly bytes: Uint8Array;
  /** The direction of the access. `end()` repeats it, as the kernel requires. */
  readonly access: Access;
  #buffer: OpenBuffer | undefined;
  readonly #direction: number;

  private constructor(buffer: OpenBuffer, bytes: Uint8Array, access: Access, direction: number) {
    this.#buffer = own(this, buffer, 'CpuAccess', 'DmaBuf.cpuAccessSync()');
    this.#direction = direction;
    this.bytes = bytes;
    this.access = access;
  }

  static readonly #of = brand('CpuAccess', (self) => (#buffer in self ? self : undefined));

  /**
   * Ends the access: what was written becomes visible to devices. A second call does nothing; so does a call after the
   * buffer was closed, which ends its accesses.
   *
   * @throws DmaBufError `ERR_DMABUF_LOST` when the exporter no longer has the memory; the access has ended nevertheless
   */
  end(): void {
    const buffer = CpuAccess.#of(this).#buffer;
    if (buffer === undefined) return;
    this.#buffer = undefined;
    if (buffer.slot < 0) return;
    if (isTracedSync(accessTracing)) {
      const trace = buffer.traceOf('end', this.#direction);
      accessTracing.traceSync(endNow, trace, undefined, buffer, this.#direction);
    } else buffer.end(this.#direction);
  }

  /** What the access is, for logs and as JSON. */
  toJSON(): object {
    const buffer = CpuAccess.#of(this).#buffer;
    const isEnded = buffer === undefined || buffer.closed;
    return { type: 'CpuAccess', access: this.access, length: this.bytes.length, ended: isEnded };
  }

  /** The same as `end()`. */
  [Symbol.dispose](): void {
    apply(CpuAccess.prototype.end, this, []);
  }
}

/** Starts CPU access, and blocks until the fences have signalled. */
export function beginSync(buffer: OpenBuffer, access: Access): CpuAccess {
  const direction = directionOf(access);
  if (isTracedSync(accessTracing)) {
    const trace = buffer.traceOf('begin', direction);
    return accessTracing.traceSync(beginNow, trace, undefined, buffer, access, direction);
  }
  return createCpuAccess(buffer, buffer.begin(direction), access, direction);
}

function beginNow(buffer: OpenBuffer, access: Access, direction: number): CpuAccess {
  return createCpuAccess(buffer, buffer.begin(direction), access, direction);
}

/** A subscriber may have closed the buffer, which ends its accesses. */
function endNow(buffer: OpenBuffer, direction: number): void {
  if (buffer.slot >= 0) buffer.end(direction);
}

/** Starts CPU access once the fences have signalled, without blocking the event loop; `method` is what the user called. */
export async function begin(
  buffer: OpenBuffer,
  access: Access,
  options: WaitOptions | undefined,
  // biome-ignore lint/complexity/noBannedTypes: V8 leaves out all frames above any function.
  method: Function,
): Promise<CpuAccess> {
  const direction = directionOf(access);
  const limits = checkWaitOptions(options);
  if (accessTracing.hasSubscribers) {
    const trace = buffer.traceOf('begin', direction);
    return await traceAsync(accessTracing, trace, () => beginLater(buffer, access, limits, method));
  }
  return await beginLater(buffer, access, limits, method);
}

async function beginLater(
  buffer: OpenBuffer,
  access: Access,
  limits: Limits,
  // biome-ignore lint/complexity/noBannedTypes: the same.
  method: Function,
): Promise<CpuAccess> {
  const direction = directionOf(access);
  // Maps first: if the buffer cannot be mapped, there is no need to wait.
  const bytes = buffer.tryBegin(direction) ?? (await buffer.beginReady(direction, limits, callSite(method)));
  return createCpuAccess(buffer, bytes, access, direction);
}

/** Calls `fn` with a buffer's bytes; the access ends whatever `fn` does. */
export function withAccess<T>(buffer: OpenBuffer, access: Access, fn: (bytes: Uint8Array) => T): T {
  directionOf(access);
  if (typeof fn !== 'function') throw invalidType('fn', 'a function', fn);
  const cpuAccess = beginSync(buffer, access);
  let result: T;
  try {
    result = fn(cpuAccess.bytes);
  } catch (error) {
    endQuietly(cpuAccess);
    throw error;
  }
  cpuAccess.end();
  if (isThenable(result)) {
    result.then(undefined, () => {});
    throw assign(
      new TypeError(
        'withCpuAccessSync() needs a function that is done when it returns; this one returned a promise',
      ),
      { code: 'ERR_INVALID_RETURN_VALUE' },
    );
  }
  return result;
}

/** Ends an access when the promise that `fn` returns has settled, in either way. */
export async function useAndEnd<T>(
  cpuAccess: CpuAccess,
  fn: (bytes: Uint8Array) => T | Promise<T>,
): Promise<T> {
  let result: T;
  try {
    result = await fn(cpuAccess.bytes);
  } catch (error) {
    endQuietly(cpuAccess);
    throw error;
  }
  cpuAccess.end();
  return result;
}

/** Ends an access when the caller's own error matters more than an error of END. */
function endQuietly(access: CpuAccess): void {
  try {
    access.end();
  } catch {
    // The caller's error is thrown instead.
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    (isObject(value) || typeof value === 'function') && 'then' in value && typeof value.then === 'function'
  );
}
