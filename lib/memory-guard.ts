import type { AllocationDone } from './allocation.js';
import { DmaBufError } from './errors.js';
import {
  chargesHeaps,
  exceedsAllMemory,
  groupLimit,
  isSurelyAvailable,
  type MemoryLimit,
  machineLimit,
} from './memory-limits.js';

/**
 * What a source's memory is taken from. `'contiguous'`: from CMA, which answers ENOMEM by itself, and whose free pages are
 * no limit, since page cache and programs make way. `'machine'`: from all other memory. `'charged'`: from that too, and
 * counted by the control groups of the process.
 */
export type MemoryKind = 'contiguous' | 'machine' | 'charged';

/** The memory of a heap that is no contiguous one. */
export function kindOfHeapMemory(): MemoryKind {
  return chargesHeaps() ? 'charged' : 'machine';
}

/** Bytes that may pass between two looks at the counters. */
const grain = 1 << 20;

/** What this thread's requests take of one store of memory, beside what the kernel counts already. */
class Ledger {
  /** Bytes that have passed since the last look. */
  private passed = grain;
  /** Bytes of requests on their way. The kernel takes their memory bit by bit. */
  private reserved = 0;
  /** What is left for further requests, by the counts so far and what has been let through since. */
  private budget = 0;

  /** Whether it is time to look at the counters again. */
  pass(size: number): boolean {
    // With nothing on its way, what was once counted says nothing any more.
    if (this.reserved === 0) this.budget = 0;
    this.passed += size;
    return this.passed >= grain;
  }

  reserve(size: number): void {
    this.reserved += size;
  }

  settle(size: number): void {
    this.reserved -= size;
  }

  get onTheirWay(): number {
    return this.reserved;
  }

  /** Lets through what fits into so many bytes, of which requests on their way may have taken some already. */
  take(size: number, available: number): void {
    this.budget = this.leftOf(available) - size;
    this.passed = 0;
  }

  /** Refuses what exceeds the limit. */
  check(size: number, { available, counter }: MemoryLimit, hint: string): void {
    const left = Math.max(0, Math.min(available, this.leftOf(available)));
    if (size > left) throw refusal(size, left, counter, this.reserved, hint);
    this.take(size, available);
  }

  /**
   * Never less than without what is on its way, and as much as before it began to be served. With nothing on its way the
   * counters say it all: others may have taken memory since.
   */
  private leftOf(available: number): number {
    return this.reserved === 0 ? available : Math.max(this.budget, available - this.reserved);
  }
}

// Each thread has its own: workers do not know of each other's requests, as processes do not.
const machine = new Ledger();
const groups = new Ledger();

const askForLess = 'Ask for less, free some, or pass unchecked: true';

function refusal(size: number, left: number, counter: string, reserved: number, hint: string): DmaBufError {
  const others = reserved === 0 ? '' : `, less ${reserved} bytes of requests that are on their way`;
  return new DmaBufError(
    `ERR_DMABUF_MEMORY_GUARD: ${size} bytes were asked for and ${left} are available (${counter}${others}). The kernel ` +
      'would not refuse but kill processes to find the memory',
    { code: 'ERR_DMABUF_MEMORY_GUARD', hint },
  );
}

/**
 * Refuses what cannot be had: the kernel does not, and its OOM killer takes other people's processes first. Small requests
 * are let through until they add up to a mebibyte.
 */
export function guardMemory(size: number, kind: MemoryKind, hint: string = askForLess): void {
  if (kind === 'contiguous') {
    if (size >= grain) guardAllMemory(size);
    return;
  }
  if (machine.pass(size)) {
    const asked = size + machine.onTheirWay;
    // Then twice as much is free.
    if (isSurelyAvailable(asked)) machine.take(size, 2 * asked);
    else machine.check(size, machineLimit(), hint);
  }
  if (kind === 'charged' && groups.pass(size)) {
    const limit = groupLimit();
    if (limit === undefined) groups.take(size, Number.POSITIVE_INFINITY);
    else groups.check(size, limit, hint);
  }
}

/** Refuses what no source of this machine could serve. */
export function guardAllMemory(size: number): void {
  if (size >= grain && exceedsAllMemory(size)) {
    const { available, counter } = machineLimit();
    throw refusal(size, available, counter, 0, askForLess);
  }
}

/** Has an allocation on the thread pool count, until it is done, for all requests of this thread that come meanwhile. */
export function whileReserved(
  size: number,
  kind: MemoryKind,
  start: (done: AllocationDone) => void,
): (done: AllocationDone) => void {
  if (kind === 'contiguous') return start;
  const isCharged = kind === 'charged';
  return (done) => {
    const settle = (): void => {
      machine.settle(size);
      if (isCharged) groups.settle(size);
    };
    machine.reserve(size);
    if (isCharged) groups.reserve(size);
    try {
      start((handleOrErrno, syscall) => {
        settle();
        done(handleOrErrno, syscall);
      });
    } catch (error) {
      settle();
      throw error;
    }
  };
}
