import { DmaBufError } from './errors.js';

/**
 * A direction of access: of the CPU to the bytes, of a device, or of a file descriptor. To wait for fences, `'read-write'`
 * is the same as `'write'`.
 */
export type Access = 'read' | 'write' | 'read-write';

/** The longest name of a dma-buf in bytes of UTF-8 (DMA_BUF_NAME_LEN less the NUL). */
const maxNameBytes = 31;

function show(value: unknown): string {
  if (typeof value === 'string') return `'${value.length > 60 ? `${value.slice(0, 60)}…` : value}'`;
  if (typeof value === 'function') return `function ${value.name}`;
  if (typeof value === 'object' && value !== null) {
    return `an instance of ${value.constructor?.name ?? 'Object'}`;
  }
  return typeof value === 'bigint' ? `${value}n` : String(value);
}

/** TypeError with code `ERR_INVALID_ARG_TYPE`. */
export function invalidType(name: string, expected: string, value: unknown): TypeError {
  const error = new TypeError(`The ${name} must be ${expected}. Received ${show(value)}`);
  return Object.assign(error, { code: 'ERR_INVALID_ARG_TYPE' });
}

/** RangeError with code `ERR_OUT_OF_RANGE`. */
export function outOfRange(name: string, expected: string, value: unknown): RangeError {
  const error = new RangeError(`The ${name} must be ${expected}. Received ${show(value)}`);
  return Object.assign(error, { code: 'ERR_OUT_OF_RANGE' });
}

/** TypeError with code `ERR_INVALID_THIS`: a method was called on something else. */
export function invalidThis(type: string): TypeError {
  return Object.assign(new TypeError(`This method needs a ${type} as this`), { code: 'ERR_INVALID_THIS' });
}

/** Whether a value can have private members at all: `#member in value` throws for anything else. */
export function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** TypeError with code `ERR_ILLEGAL_CONSTRUCTOR`. */
export function illegalConstructor(type: string, instead: string): TypeError {
  return Object.assign(new TypeError(`${type} cannot be constructed; use ${instead}`), {
    code: 'ERR_ILLEGAL_CONSTRUCTOR',
  });
}

/** `ERR_DMABUF_CLOSED` for an object of `type`. */
export function closedError(type: string): DmaBufError {
  return new DmaBufError(`ERR_DMABUF_CLOSED: this ${type} is closed`, { code: 'ERR_DMABUF_CLOSED' });
}

function badInteger(value: unknown, name: string, min: number, max: number): TypeError | RangeError {
  if (typeof value !== 'number') return invalidType(name, 'a number', value);
  if (!Number.isInteger(value)) return outOfRange(name, 'a whole number', value);
  return outOfRange(name, `from ${min} to ${max}`, value);
}

/** A whole number from `min` to `max`, both included. */
export function checkInteger(value: unknown, name: string, min: number, max: number): number {
  if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) return value as number;
  throw badInteger(value, name, min, max);
}

/** A size in bytes: a whole number from 1 to 2^53 − 1. */
export function checkSize(value: unknown): number {
  return checkInteger(value, 'size', 1, Number.MAX_SAFE_INTEGER);
}

/** A number that may be a file descriptor. */
export function checkFd(value: unknown, name = 'fd'): number {
  return checkInteger(value, name, 0, 2 ** 31 - 1);
}

/** A dma-buf's name: at most 31 bytes of UTF-8 without NUL. */
export function checkName(value: unknown): string {
  if (typeof value !== 'string') throw invalidType('name', 'a string', value);
  if (value.includes('\0')) throw outOfRange('name', 'without NUL', value);
  const bytes = Buffer.byteLength(value);
  if (bytes > maxNameBytes) {
    throw outOfRange('name', `at most ${maxNameBytes} bytes of UTF-8 (this one has ${bytes})`, value);
  }
  return value;
}

function badAccess(access: unknown): TypeError | RangeError {
  const expected = "'read', 'write' or 'read-write'";
  return typeof access === 'string'
    ? outOfRange('access', expected, access)
    : invalidType('access', expected, access);
}

/** The kernel's bits for a direction: DMA_BUF_SYNC_READ 1, DMA_BUF_SYNC_WRITE 2, both 3. */
export function directionOf(access: Access): number {
  if (access === 'read') return 1;
  if (access === 'write') return 2;
  if (access === 'read-write') return 3;
  throw badAccess(access);
}

/** The access mode of open(2) for a direction: O_RDONLY 0, O_WRONLY 1, O_RDWR 2. */
export function accessModeOf(access: Access): number {
  return directionOf(access) - 1;
}

/** An options object, or nothing. */
export function checkOptions(value: unknown): void {
  if (value !== undefined && (typeof value !== 'object' || value === null)) {
    throw invalidType('options', 'an object', value);
  }
}

/** A boolean option, or nothing. */
export function checkFlag(value: unknown, name: string): boolean {
  if (value === undefined) return false;
  if (typeof value !== 'boolean') throw invalidType(name, 'a boolean', value);
  return value;
}

/** An AbortSignal, or nothing. */
export function checkSignal(value: unknown): AbortSignal | undefined {
  if (value === undefined) return undefined;
  const signal = value as AbortSignal;
  const usable =
    isObject(value) &&
    typeof signal.aborted === 'boolean' &&
    typeof signal.throwIfAborted === 'function' &&
    typeof signal.addEventListener === 'function';
  if (!usable) throw invalidType('signal', 'an AbortSignal', value);
  return signal;
}

/** The bytes of any view of memory. */
export function checkView(value: unknown, name: string): Uint8Array {
  if (!ArrayBuffer.isView(value)) throw invalidType(name, 'a TypedArray, DataView or Buffer', value);
  if (value instanceof Uint8Array) return value;
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}
