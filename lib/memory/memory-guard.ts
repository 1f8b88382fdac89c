import { DmaBufError } from '../errors.js';
import { min } from '../intrinsics.js';
import { native, Register } from '../native.js';
import type { AllocationDone } from './allocation.js';
import {
  chargesHeaps,
  exceedsAllMemory,
  groupLimit,
  type MemoryLimit,
  machineLimit,
  surelyAvailable,
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

/** How a store of memory is looked at by this thread. The addon keeps account of all threads' requests. */
class Store {
  readonly #isGroups: boolean;
  /** Bytes that have passed since the last look. */
  #passed = grain;

  constructor(isGroups: boolean) {
    this.#isGroups = isGroups;
  }

  /** Whether it is time to look at the counters again. */
  pass(size: number): boolean {
    this.#passed += size;
    return this.#passed >= grain;
  }

  /** Whether so many bytes are left of what `look` finds. They are reserved then; else the registers say what is left. */
  admits(size: number, look: () => number): boolean {
    for (;;) {
      const settled = native.settledMemory(this.#isGroups);
      const available = min(look(), Number.MAX_SAFE_INTEGER);
      if (native.admitMemory(this.#isGroups, size, available, settled)) {
        this.#passed = 0;
        return true;
      }
      // Where another thread's request has ended meanwhile, nobody knows whether it was counted.
      if (native.registers[Register.settledMemory] === settled) return false;
    }
  }

  /** Refuses what exceeds the limit. */
  check(size: number, look: () => MemoryLimit, hint: string): void {
    let counter = '';
    const isAdmitted = this.admits(size, () => {
      const limit = look();
      counter = limit.counter;
      return limit.available;
    });
    if (isAdmitted) return;
    const left = native.registers[Register.leftMemory] as number;
    const reserved = native.registers[Register.reservedMemory] as number;
    native.forgoMemory();
    throw refusal(size, left, counter, reserved, hint);
  }
}

const machine = new Store(false);
const groups = new Store(true);
const noLimit: MemoryLimit = { available: Number.POSITIVE_INFINITY, counter: '' };

const { queueMicrotask } = globalThis;

let isForgoing = false;

/** Whatever the guard lets through is asked for at once, or not at all. */
function forgoSoon(): void {
  if (isForgoing) return;
  queueMicrotask(() => {
    isForgoing = false;
    native.forgoMemory();
  });
  isForgoing = true;
}

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
    forgoSoon();
    if (!machine.admits(size, surelyAvailable)) machine.check(size, machineLimit, hint);
  }
  if (kind === 'charged' && groups.pass(size)) {
    forgoSoon();
    groups.check(size, () => groupLimit() ?? noLimit, hint);
  }
}

/** Refuses what no source of this machine could serve. */
export function guardAllMemory(size: number): void {
  if (size >= grain && exceedsAllMemory(size)) {
    const { available, counter } = machineLimit();
    throw refusal(size, available, counter, 0, askForLess);
  }
}

/** Has an allocation on the thread pool count, until it is done, for all requests of this process that come meanwhile. */
export function whileReserved(
  size: number,
  kind: MemoryKind,
  start: (done: AllocationDone) => void,
): (done: AllocationDone) => void {
  if (kind === 'contiguous') return start;
  return (done) => {
    forgoSoon();
    native.reserveMemory(size, kind === 'charged');
    start(done);
  };
}
