import type { KernelRun } from '../vm/index.js';

/** The same status as timeout(1). */
export const EXIT_TIMEOUT = 124;
export const EXIT_RUNNER_FAILED = 125;

/** The status of a run: the command's, or that of the failure. */
export function statusOf({ exitCode, error }: Pick<KernelRun, 'exitCode' | 'error'>): number {
  return exitCode ?? (error?.code === 'ETIMEDOUT' ? EXIT_TIMEOUT : EXIT_RUNNER_FAILED);
}
