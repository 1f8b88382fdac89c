export { VmError, type VmErrorCode } from './errors.js';
export type { Accelerator, VmOptions } from './options.js';
export { runInVm, type VmResult } from './run.js';
