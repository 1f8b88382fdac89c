import { checkDuration, checkFlag, checkInteger, invalidValue, outOfRange, readOptions } from '../check.js';
import {
  type AllocateOptions,
  type AllocationRequest,
  allocateOptions,
  checkAllocation,
} from './allocate.js';

/** The options of a {@link DmaBufPool}: its buffers, and how many it has. */
export interface PoolOptions extends AllocateOptions {
  /** The maximum number of buffers, lent and idle together: 1 to 2^20. Default 8. */
  max?: number | undefined;
  /** How many buffers, including lent ones, are kept when idle ones are freed: at most `max`. Default 0. */
  min?: number | undefined;
  /** Milliseconds after which an idle buffer is freed. Default 10 000; 0 keeps them. */
  idleTimeout?: number | undefined;
  /** Whether to clear a buffer before it is lent again, for content that its next user must not see. Default false. */
  zero?: boolean | undefined;
}

const poolOptions: readonly string[] = [...allocateOptions, 'max', 'min', 'idleTimeout', 'zero'];

/** The options of a pool of buffers of `size` bytes, checked. */
export function checkPoolOptions(
  size: number,
  options: PoolOptions | undefined,
): { max: number; min: number; idleTimeout: number; zero: boolean; request: AllocationRequest } {
  const wanted = readOptions(options, poolOptions);
  const { max = 8, min = 0, idleTimeout = 10_000, zero, from, name, access, unchecked } = wanted;
  const checked = {
    request: checkAllocation(size, { from, name, access, unchecked }),
    max: checkInteger(max, 'max', 1, 2 ** 20),
    min: checkInteger(min, 'min', 0, 2 ** 20),
    idleTimeout: checkDuration(idleTimeout, 'idleTimeout'),
    zero: checkFlag(zero, 'zero'),
  };
  if (min > max) throw outOfRange('min', `at most ${max}, which is max`, min);
  if (checked.zero && access !== undefined && access !== 'read-write') {
    throw invalidValue(
      `The option zero needs access 'read-write': a buffer with access '${access}' cannot be cleared`,
    );
  }
  return checked;
}
