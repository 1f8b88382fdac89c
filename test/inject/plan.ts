import { type Call, errnosOf, type Injection } from './calls.js';

/** How thorough: how many of a script's calls of a kind fail, and whether also "from then on". */
export interface Thoroughness {
  readonly most: number;
  readonly forms: readonly Injection['form'][];
  /** How long a script waits for what a failure may have made endless, in ms. */
  readonly patience: number;
  /** The kernel's allocations fail in the calls, not the calls. */
  readonly allocations?: true;
}

/**
 * Each distinct call and errno once for each script: what CI has time for. Nothing that fails once makes a wait endless, so
 * that no clock has a say in it.
 */
export const reduced: Thoroughness = { most: 1, forms: ['once'], patience: 30_000 };
export const thorough: Thoroughness = { most: 40, forms: ['once', 'from then on'], patience: 2500 };

/**
 * Which of a call's allocations fail, one at a time until it makes no more: all of the first forty, then some at growing
 * distances, since a program for BPF takes thousands.
 */
export function nextAllocation(last: number): number {
  return last < 40 ? last + 1 : Math.ceil(last * 1.5);
}

/** As `reduced`, but for what fails. */
export const allocations: Thoroughness = { ...reduced, allocations: true };

/** Which of `count` calls, from 1: all, or the first, the last and others at equal distances. */
export function chosen(count: number, most: number): number[] {
  if (count <= most) return Array.from({ length: count }, (_, index) => index + 1);
  if (most === 1) return [1];
  return Array.from({ length: most }, (_, index) => 1 + Math.round((index * (count - 1)) / (most - 1)));
}

/** All injections for the calls that a script makes. */
export function planFor(
  calls: readonly (Call & { count: number })[],
  { most, forms }: Thoroughness,
): Injection[] {
  const injections: Injection[] = [];
  for (const call of calls) {
    const { function: name, detail, count } = call;
    for (const nth of chosen(count, most)) {
      for (const errno of errnosOf(call)) {
        for (const form of forms) injections.push({ function: name, detail, nth, of: count, errno, form });
      }
    }
  }
  return injections;
}
