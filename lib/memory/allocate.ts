import { throwIfAborted } from '../abort.js';
import { bufferOf, type DmaBuf } from '../buffer/dma-buf.js';
import { checkSignal, invalidType, outOfRange, readOptions } from '../check.js';
import {
  type AllocationAttempt,
  atCallSite,
  type CallSite,
  callSite,
  DmaBufError,
  partsOf,
} from '../errors.js';
import { freeze, isArray, itemsOf } from '../intrinsics.js';
import { isTracedSync, traceAsync } from '../tracing.js';
import { type AllocateTrace, allocateTracing, traceAllocationSync } from './allocation.js';
import { allocateOn, allocateOnSync, DmaHeap } from './dma-heap.js';
import { allocateOnDevice, allocateOnDeviceSync } from './heap-device.js';
import { checkHeapName } from './heap-list.js';
import { useHeap } from './kept-heaps.js';
import { guardAllMemory } from './memory-guard.js';
import { type BufferOptions, type BufferRequest, bufferOptions, checkRequest } from './request.js';
import { allocateUdmabuf, allocateUdmabufSync } from './udmabuf.js';

/**
 * A source of memory: a heap by alias (`'cma'`), name or path, an open heap, or `'udmabuf'`, which makes a dma-buf of
 * ordinary memory (`/dev/udmabuf`, Linux 4.20).
 */
export type Source = 'system' | 'cma' | 'udmabuf' | (string & {}) | DmaHeap;

/** The buffer that {@link allocate} makes, and its sources. */
export interface AllocateOptions extends BufferOptions {
  /**
   * The sources in the order of preference, at least one. Default `['system', 'udmabuf']`. When one refuses, the next
   * is tried, whatever the reason: the source does not exist, may not be used, has no memory left or cannot make such a
   * buffer. {@link DmaBuf.attempts} lists the refusals. Only an error that every source would have ends the search
   * (`EMFILE`).
   */
  from?: Source | readonly Source[] | undefined;
}

/** The names of the options. */
export const allocateOptions: readonly string[] = ['from', ...bufferOptions];
const cancellableOptions: readonly string[] = [...allocateOptions, 'signal'];

const defaultSources: readonly Source[] = ['system', 'udmabuf'];

/**
 * What no other source would cure: the process has no descriptor left, the descriptor of an open heap was closed behind its
 * object, or a path that was given makes no sense (a heap's name has none: what lies in the way of its path is the machine's
 * fault). Whatever else the kernel answers is this one source's refusal: EINVAL too, since the
 * request was checked before (a contiguous heap, a vendor's heap and udmabuf each refuse sizes that others serve).
 */
const endsTheSearch = new Set(['EMFILE', 'ENFILE', 'EBADF', 'ENAMETOOLONG']);
const isSenseless = new Set(['ENOTDIR', 'ELOOP']);

function isRefusal(error: unknown, source: Source): error is DmaBufError {
  if (!(error instanceof DmaBufError)) return false;
  if (error.code.startsWith('ERR_')) return error.code === 'ERR_DMABUF_MEMORY_GUARD';
  if (isSenseless.has(error.code)) return !nameOf(source).includes('/');
  return !endsTheSearch.has(error.code);
}

function checkSources(from: unknown): readonly Source[] {
  if (from === undefined) return defaultSources;
  const sources: unknown[] = isArray(from) ? itemsOf(from) : [from];
  if (sources.length === 0) throw outOfRange('option from', 'a list of at least one source', sources);
  for (let index = 0; index < sources.length; index++) {
    const source = sources[index];
    if (typeof source === 'string') checkHeapName(source);
    else if (!(source instanceof DmaHeap)) {
      throw invalidType('option from', "a heap's name or path, a DmaHeap, or a list of them", source);
    }
  }
  return sources as Source[];
}

/** What {@link allocate} was asked for, checked. */
export interface AllocationRequest extends BufferRequest {
  readonly sources: readonly Source[];
}

/** Finds every fault of the request before the first source is touched; the options have been read. */
export function checkAllocation(size: number, { from, ...options }: AllocateOptions): AllocationRequest {
  return { ...checkRequest(size, options), sources: checkSources(from) };
}

function nameOf(source: Source): string {
  return typeof source === 'string' ? source : source.name;
}

/** Keeps a refusal for the report, or throws an error that no other source would cure. */
function record(attempts: AllocationAttempt[], source: Source, error: unknown): void {
  if (!isRefusal(error, source)) throw error;
  attempts.push({ source: nameOf(source), error });
}

async function allocateFrom(
  source: Source,
  request: BufferRequest,
  signal: AbortSignal | undefined,
  site: CallSite,
): Promise<DmaBuf> {
  if (source === 'udmabuf') return await allocateUdmabuf(request, signal, site);
  if (source instanceof DmaHeap) return await allocateOn(source, request, signal, site);
  return await useHeap(source, (device) => allocateOnDevice(device, request, signal, site));
}

function allocateFromSync(source: Source, request: BufferRequest): DmaBuf {
  if (source === 'udmabuf') return allocateUdmabufSync(request);
  if (source instanceof DmaHeap) return allocateOnSync(source, request);
  return useHeap(source, (device) => allocateOnDeviceSync(device, request));
}

/** Tells a buffer, if need be, which sources were passed over. */
function served(buffer: DmaBuf, attempts: AllocationAttempt[]): DmaBuf {
  if (attempts.length > 0) bufferOf(buffer).attempts = freeze(attempts);
  return buffer;
}

/** What a source that does not exist answers. */
const isAbsent = new Set(['ENOENT', 'ENODEV', 'ENXIO']);

/** A refusal, and what to do about it but for what was said of another source before. */
function describe({ source, error }: AllocationAttempt, said: Set<string>): string {
  const { what, advice } = partsOf(error);
  const more = advice.filter((sentence) => !said.has(sentence));
  for (const sentence of more) said.add(sentence);
  return `\n  ${source}: ${more.length === 0 ? what : `${what}. ${more.join(' ')}`}`;
}

function noSource({ size }: BufferRequest, attempts: AllocationAttempt[]): DmaBufError {
  // Where every source that there is lacks the memory, that is the one reason.
  const [first, ...others] = attempts.filter(({ error }) => !isAbsent.has(error.code));
  const code = 'ERR_DMABUF_MEMORY_GUARD';
  if (first !== undefined && [first, ...others].every(({ error }) => error.code === code)) {
    const { what, advice } = partsOf(first.error);
    return new DmaBufError(what, { code, hint: advice, attempts });
  }
  const said = new Set<string>();
  const lines = attempts.map((attempt) => describe(attempt, said));
  return new DmaBufError(`ERR_DMABUF_NO_SOURCE: no source could serve ${size} bytes:${lines.join('')}`, {
    code: 'ERR_DMABUF_NO_SOURCE',
    attempts,
  });
}

/** What exceeds the machine's memory exceeds every source: one clear refusal instead of a list. */
function guardAll({ size, unchecked }: BufferRequest): void {
  if (!unchecked) guardAllMemory(size);
}

function traceOf(operation: AllocateTrace['operation'], request: AllocationRequest): AllocateTrace {
  const { size, name, sources } = request;
  return { operation, size, name, sources: sources.map(nameOf) };
}

/** Allocates from the first source that can serve; `site` is the user's call. */
export function allocateFirst(
  request: AllocationRequest,
  signal: AbortSignal | undefined,
  site: CallSite,
): Promise<DmaBuf> {
  if (allocateTracing.hasSubscribers) {
    const trace = traceOf('allocate', request);
    return traceAsync(allocateTracing, trace, () => tryInTurn(request, signal, site));
  }
  return tryInTurn(request, signal, site);
}

async function tryInTurn(
  request: AllocationRequest,
  signal: AbortSignal | undefined,
  site: CallSite,
): Promise<DmaBuf> {
  guardAll(request);
  const { sources } = request;
  const attempts: AllocationAttempt[] = [];
  for (let index = 0; index < sources.length; index++) {
    const source = sources[index] as Source;
    try {
      return served(await allocateFrom(source, request, signal, site), attempts);
    } catch (error) {
      throwIfAborted(signal);
      record(attempts, source, error);
    }
  }
  throw atCallSite(noSource(request, attempts), site);
}

/**
 * Allocates zeroed memory from the first source that can serve, on the thread pool. When `signal` aborts, the promise
 * rejects at once with its reason, and a buffer that the kernel still delivers is closed.
 *
 * @param size Bytes; rounded up to pages.
 * @throws DmaBufError `ERR_DMABUF_NO_SOURCE` with `attempts`, `ERR_DMABUF_MEMORY_GUARD` (more than is available); the
 *   kernel's errno where no other source would help: `EMFILE`
 *
 * @example
 * using buffer = await allocate(1920 * 1080 * 4, { from: ['cma', 'system'], name: 'frame' });
 */
export async function allocate(
  size: number,
  options?: AllocateOptions & { signal?: AbortSignal | undefined },
): Promise<DmaBuf> {
  const { signal: given, ...wanted } = readOptions(options, cancellableOptions);
  const request = checkAllocation(size, wanted);
  const signal = checkSignal(given);
  throwIfAborted(signal);
  return await allocateFirst(request, signal, callSite(allocate));
}

/**
 * Allocates zeroed memory from the first source that can serve. **Blocks** the thread while the kernel clears it.
 *
 * @param size Bytes; rounded up to pages.
 * @throws DmaBufError what {@link allocate} rejects with
 */
export function allocateSync(size: number, options?: AllocateOptions): DmaBuf {
  const wanted = readOptions(options, allocateOptions);
  const request = checkAllocation(size, wanted);
  if (isTracedSync(allocateTracing)) {
    return traceAllocationSync(traceOf('allocateSync', request), () => tryInTurnSync(request));
  }
  return tryInTurnSync(request);
}

function tryInTurnSync(request: AllocationRequest): DmaBuf {
  guardAll(request);
  const { sources } = request;
  const attempts: AllocationAttempt[] = [];
  for (let index = 0; index < sources.length; index++) {
    const source = sources[index] as Source;
    try {
      return served(allocateFromSync(source, request), attempts);
    } catch (error) {
      record(attempts, source, error);
    }
  }
  throw noSource(request, attempts);
}
