import type { TracingChannel } from 'node:diagnostics_channel';
import { bufferOf, createDmaBuf, type DmaBuf } from '../buffer/dma-buf.js';
import { atCallSite, type CallSite } from '../errors.js';
import { askedForAt, placeOfCall } from '../handle.js';
import { native, type Slot } from '../native.js';
import { tracingOf } from '../tracing.js';
import { PendingWaits } from '../wait.js';
import './advice.js';
import type { BufferRequest } from './request.js';

/**
 * What the tracing channel `dmabuf:allocate` reports about an allocation: by `allocate()` and `allocateSync()`, by the
 * methods of a `DmaHeap` with these names, or by a pool.
 */
export interface AllocateTrace {
  /** The function or method; a pool calls `allocate()`. */
  operation: 'allocate' | 'allocateSync';
  /** The requested size in bytes. */
  size: number;
  /** The name that the buffer gets. */
  name?: string | undefined;
  /** The sources in the order of preference: heaps as the caller named them, and `'udmabuf'`. */
  sources: readonly string[];
  /** The buffer: its `source` is the one that served, and its `attempts` are the refusals of others. */
  result?: DmaBuf;
  /** What the call throws or rejects with. */
  error?: unknown;
}

/** The channel `dmabuf:allocate`. */
export const allocateTracing: TracingChannel<unknown, AllocateTrace> = tracingOf('dmabuf:allocate');

/**
 * Allocates for subscribers, and blocks. The place of the call is recorded first: later, the frames of Node.js would push
 * it out of the stack.
 */
export function traceAllocationSync(trace: AllocateTrace, allocate: () => DmaBuf): DmaBuf {
  const site = placeOfCall();
  return allocateTracing.traceSync(() => askedForAt(site, allocate), trace);
}

/** Names a buffer that the kernel has just made; a buffer that cannot be named is closed. */
export function finishAllocation(slot: Slot, name: string | undefined, source: string): DmaBuf {
  const buffer = createDmaBuf(slot, source);
  if (name !== undefined) {
    try {
      native.setName(bufferOf(buffer).slot, name);
    } catch (error) {
      buffer.close();
      throw error;
    }
  }
  return buffer;
}

/** The callback of an allocation on the thread pool: gets a slot, or a negative errno and the call's name. */
export type AllocationDone = (slotOrErrno: number, syscall: string | undefined) => void;

/**
 * Runs an allocation on the thread pool. The kernel cannot be stopped: when `signal` aborts, the promise rejects at once,
 * and the buffer is closed when it arrives.
 */
export function runAllocation(
  start: (done: AllocationDone) => void,
  { name }: BufferRequest,
  signal: AbortSignal | undefined,
  source: string,
  site: CallSite,
): Promise<DmaBuf> {
  return new PendingWaits().run<DmaBuf>(
    (done, fail) => {
      let isUnwanted = false;
      start((slotOrErrno, syscall) => {
        if (slotOrErrno < 0) {
          done(slotOrErrno, undefined as never, syscall);
        } else if (isUnwanted) {
          native.close(slotOrErrno);
        } else {
          try {
            done(
              0,
              askedForAt(site, () => finishAllocation(slotOrErrno, name, source)),
            );
          } catch (error) {
            fail(error instanceof Error ? atCallSite(error, site) : error);
          }
        }
      });
      return () => {
        isUnwanted = true;
      };
    },
    { signal },
    site,
    'allocating',
  );
}
