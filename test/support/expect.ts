import assert from 'node:assert/strict';
import { DmaBufError } from 'dmabuf';

/** A value that the types forbid, for tests of what happens at run time. */
// biome-ignore lint/suspicious/noExplicitAny: it has to fit anywhere.
export function unsound(value: unknown): any {
  return value;
}

type ErrorClass = new (...args: never[]) => Error;

const classOfCode: Record<string, ErrorClass> = {
  ERR_INVALID_ARG_TYPE: TypeError,
  ERR_INVALID_ARG_VALUE: TypeError,
  ERR_INVALID_THIS: TypeError,
  ERR_INVALID_RETURN_VALUE: TypeError,
  ERR_ILLEGAL_CONSTRUCTOR: TypeError,
  ERR_OUT_OF_RANGE: RangeError,
};

/** Asserts that `error` has the code and is of the class that the contract promises for it. */
export function assertCode(error: unknown, code: string, call = 'the call'): asserts error is DmaBufError {
  assert.ok(error instanceof Error, `${call} threw ${String(error)}`);
  assert.equal((error as DmaBufError).code, code, `${call}: ${error.name}: ${error.message}`);
  assert.ok(error instanceof (classOfCode[code] ?? DmaBufError), `${call} threw a ${error.constructor.name}`);
}

/** Asserts that `fn` throws an error with this code, and returns the error. */
export function throwsCode(fn: () => unknown, code: string, call?: string): DmaBufError {
  let result: unknown;
  try {
    result = fn();
  } catch (error) {
    assertCode(error, code, call);
    return error;
  }
  if (result instanceof Promise) result.catch(() => {});
  assert.fail(`${call ?? 'the call'} did not throw ${code}`);
}

/** Asserts that `fn` returns a promise (and does not throw) that rejects with this code; resolves with the error. */
export async function rejectsCode(fn: () => unknown, code: string, call?: string): Promise<DmaBufError> {
  const promise = fn();
  assert.ok(promise instanceof Promise, `${call ?? 'the call'} returned no promise`);
  try {
    await promise;
  } catch (error) {
    assertCode(error, code, call);
    return error;
  }
  return assert.fail(`${call ?? 'the call'} did not reject with ${code}`);
}

/** What a test can assert of an error that another process reports. */
export interface ReportedError {
  name: string;
  message: string;
  stack?: string;
  code?: string;
  errno?: number;
  syscall?: string;
  path?: string;
  hint?: string;
  attempts?: { source: string; error: ReportedError }[];
}

/** An error as JSON can carry it. */
export function reportError(error: unknown): ReportedError {
  assert.ok(error instanceof Error, String(error));
  const { name, message, stack, code, errno, syscall, path, hint, attempts } = error as DmaBufError;
  const report = { name, message, stack, code, errno, syscall, path, hint };
  return unsound({
    ...report,
    attempts: attempts?.map((attempt) => ({ ...attempt, error: reportError(attempt.error) })),
  });
}

/** The error that `fn` throws or rejects with. */
export async function errorOf(fn: () => unknown): Promise<ReportedError> {
  try {
    await fn();
  } catch (error) {
    return reportError(error);
  }
  return assert.fail('no error');
}

/** Asserts that a promise rejects with exactly this value. */
export async function rejectsWith(promise: Promise<unknown>, reason: unknown): Promise<void> {
  const [outcome] = await Promise.allSettled([promise]);
  assert.equal(outcome.status, 'rejected');
  assert.equal((outcome as PromiseRejectedResult).reason, reason);
}
