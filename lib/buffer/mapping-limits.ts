import { native, Register } from '../native.js';

/** What to do when the kernel, or the addon before it, refuses to map or to unmap with ENOMEM. */
export function adviceForMapping(): string {
  native.mappingLimits();
  // Each is -1 if it is unknown, or if there is no limit.
  const { registers } = native;
  const mappings = registers[Register.mappings] as number;
  const mostMappings = registers[Register.mostMappings] as number;
  const keptFree = registers[Register.keptFree] as number;
  const addressSpace = registers[Register.addressSpace] as number;
  const mostAddressSpace = registers[Register.mostAddressSpace] as number;
  if (mostMappings >= 0 && mappings >= mostMappings - keptFree) {
    return (
      `The process has ${mappings} mappings, of at most ${mostMappings} (vm.max_map_count), of which ${keptFree} are ` +
      'reserved for Node.js itself, which ends when it gets none: unmap or close what is no longer needed, or raise the ' +
      `limit, as root: sysctl vm.max_map_count=${2 * mostMappings}`
    );
  }
  if (mostAddressSpace >= 0) {
    return (
      `The process uses ${addressSpace} bytes of addresses, of at most ${mostAddressSpace} (RLIMIT_AS): map less at a ` +
      'time, by offset and length, or raise the limit (ulimit -v)'
    );
  }
  return 'No addresses are left for a range of this size: map less at a time, by offset and length';
}
