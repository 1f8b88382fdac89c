// TypeScript 6 and later load the types of Node.js only when they are referenced, and the declarations need them.
/// <reference types="node" preserve="true" />

/**
 * Runs a command on a real kernel with dma-buf heaps, whether or not this machine's kernel has any: `dmabuf vm` as a
 * function.
 *
 * @module dmabuf/vm
 */

export type { Arch } from './arch.js';
export { VmError, type VmErrorCode } from './errors.js';
export type { Killed } from './guest-process.js';
export { type GuestTestsOptions, testInVm } from './guest-tests.js';
export type { Splat } from './kernel-log.js';
export { type KernelRun, type KernelsOptions, runOnKernels } from './kernel-runs.js';
export type { Accelerator, VmOptions } from './options.js';
export { runInVm, type VmResult } from './run.js';
