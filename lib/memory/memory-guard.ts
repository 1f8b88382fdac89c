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
 * Where a source takes its memory from. `'contiguous'`: from CMA, for which the kernel itself answers ENOMEM, and whose
 * free pages are no limit, since page cache and programs' memory are moved away. `'machine'`: from all other memory.
 * `'charged'`: the same, and counted by the control groups of the process.
 */
export type MemoryKind = 'contiguous' | 'machine' | 'charged';

/** The memory of a heap that is not contiguous. */
export function kindOfHeapMemory(): MemoryKind {
  return chargesHeaps() ? 'charged' : 'machine';
}

/** How many bytes may pass between two readings of the counters. */
const grain = 1 << 20;

/** How this thread reads the counters of one kind of memory. The addon adds up the requests of all threads. */
class Store {
  readonly #isGroups: boolean;
  /** How many bytes have passed since the last reading. */
  #passed = grain;

  constructor(isGroups: boolean) {
    this.#isGroups = isGroups;
  }

  /** Whether it is time to read the counters again. */
  pass(size: number): boolean {
    this.#passed += size;
    return this.#passed >= grain;
  }

  /**
   * Whether so many bytes are left of what `look` finds. If so, they are reserved; otherwise the registers say what is
   * left.
   */
  admits(size: number, look: () => number): boolean {
    for (;;) {
      const settled = native.settledMemory(this.#isGroups);
      const available = min(look(), Number.MAX_SAFE_INTEGER);
      if (native.admitMemory(this.#isGroups, size, available, settled)) {
        this.#passed = 0;
        return true;
      }
      // If a request of another thread has ended meanwhile, it is unknown whether it was counted.
      if (native.registers[Register.settledMemory] === settled) return false;
    }
  }

  /** Refuses a request that exceeds the limit. */
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

/** A request that passes the guard is made immediately, or not at all. */
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
  const others = reserved === 0 ? '' : `, minus ${reserved} bytes of pending requests`;
  return new DmaBufError(
    `ERR_DMABUF_MEMORY_GUARD: ${size} bytes were requested and ${left} are available (${counter}${others}). The kernel ` +
      'would not refuse, but kill processes to get the memory',
    { code: 'ERR_DMABUF_MEMORY_GUARD', hint },
  );
}

/**
 * Refuses requests for more memory than is available: the kernel does not, and its OOM killer first kills processes of
 * others. Small requests pass until they add up to a mebibyte.
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

/** Refuses a request that no source of this machine could serve. */
export function guardAllMemory(size: number): void {
  if (size >= grain && exceedsAllMemory(size)) {
    const { available, counter } = machineLimit();
    throw refusal(size, available, counter, 0, askForLess);
  }
}

/** Counts an allocation on the thread pool, until it is done, in all requests that this process makes meanwhile. */
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
