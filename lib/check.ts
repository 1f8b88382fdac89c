import { constants } from 'node:buffer';
import { DmaBufError } from './errors.js';
import { assign, freeze, isInteger } from './intrinsics.js';

/**
 * A direction of access: of the CPU to the bytes, of a device, or of a file descriptor. To wait for fences, `'read-write'`
 * is the same as `'write'`.
 */
export type Access = 'read' | 'write' | 'read-write';

/** The maximum length of a dma-buf's name in bytes of UTF-8 (DMA_BUF_NAME_LEN without the NUL). */
const maxNameBytes = 31;

/** A name that a program may have given; `instead` where a proxy or a getter throws. */
function nameOf(read: () => unknown, instead: string): string {
  try {
    return String(read() ?? instead);
  } catch {
    return instead;
  }
}

function show(value: unknown): string {
  if (typeof value === 'string') return `'${value.length > 60 ? `${value.slice(0, 60)}…` : value}'`;
  if (typeof value === 'function') return `function ${nameOf(() => value.name, '')}`;
  if (typeof value === 'object' && value !== null) {
    return `an instance of ${nameOf(() => value.constructor?.name, 'Object')}`;
  }
  return typeof value === 'bigint' ? `${value}n` : String(value);
}

/** TypeError with code `ERR_INVALID_ARG_TYPE`. */
export function invalidType(name: string, expected: string, value: unknown): TypeError {
  const error = new TypeError(`The ${name} must be ${expected}. Received ${show(value)}`);
  return assign(error, { code: 'ERR_INVALID_ARG_TYPE' });
}

/** TypeError with code `ERR_INVALID_ARG_VALUE`. */
export function invalidValue(message: string): TypeError {
  return assign(new TypeError(message), { code: 'ERR_INVALID_ARG_VALUE' });
}

/** RangeError with code `ERR_OUT_OF_RANGE`. */
export function outOfRange(name: string, expected: string, value: unknown): RangeError {
  const error = new RangeError(`The ${name} must be ${expected}. Received ${show(value)}`);
  return assign(error, { code: 'ERR_OUT_OF_RANGE' });
}

/** `ERR_OUT_OF_RANGE` for more bytes of a buffer than an ArrayBuffer may have. */
export function tooLarge(length: number): RangeError {
  return outOfRange(
    'length',
    `at most ${constants.MAX_LENGTH} (buffer.constants.MAX_LENGTH), the limit of an ArrayBuffer in this Node.js; ` +
      'for a larger buffer, map({ offset, length }) maps a part, and read() and write() copy one',
    length,
  );
}

/** TypeError with code `ERR_INVALID_THIS`: a method was called on something else. */
export function invalidThis(type: string): TypeError {
  return assign(new TypeError(`This method can be called only on a ${type}`), { code: 'ERR_INVALID_THIS' });
}

/** Whether a value can have private members at all: `#member in value` throws for anything else. */
export function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** TypeError with code `ERR_ILLEGAL_CONSTRUCTOR`. */
export function illegalConstructor(type: string, instead: string): TypeError {
  return assign(new TypeError(`${type} cannot be constructed; use ${instead}`), {
    code: 'ERR_ILLEGAL_CONSTRUCTOR',
  });
}

/** `ERR_DMABUF_CLOSED` for an object of `type`. */
export function closedError(type: string): DmaBufError {
  return new DmaBufError(`ERR_DMABUF_CLOSED: this ${type} is closed`, { code: 'ERR_DMABUF_CLOSED' });
}

function badInteger(value: unknown, name: string, min: number, max: number): TypeError | RangeError {
  if (typeof value !== 'number') return invalidType(name, 'a number', value);
  if (!isInteger(value)) return outOfRange(name, 'a whole number', value);
  return outOfRange(name, `from ${min} to ${max}`, value);
}

/** A whole number from `min` to `max`, both included. */
export function checkInteger(value: unknown, name: string, min: number, max: number): number {
  if (isInteger(value) && (value as number) >= min && (value as number) <= max) return value as number;
  throw badInteger(value, name, min, max);
}

/** The longest duration that a timer of Node.js takes. */
export const maxDuration: number = 2 ** 31 - 1;

/** Milliseconds from `min` to 2^31 − 1, possibly a fraction. */
export function checkDuration(value: unknown, name: string, min = 0): number {
  if (typeof value !== 'number') throw invalidType(name, 'a number', value);
  if (value >= min && value <= maxDuration) return value;
  throw outOfRange(name, `from ${min} to ${maxDuration}`, value);
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

/** The access of a direction. */
export function accessOf(direction: number): Access {
  return direction === 1 ? 'read' : direction === 2 ? 'write' : 'read-write';
}

/** The access mode of open(2) for a direction: O_RDONLY 0, O_WRONLY 1, O_RDWR 2. */
export function accessModeOf(access: Access): number {
  return directionOf(access) - 1;
}

/** How many letters have to be replaced, removed or added to turn one word into the other (Levenshtein distance). */
function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let i = 1; i <= one.length; i++) {
    const above = row;
    row = [i];
    for (let j = 1; j <= other.length; j++) {
      const replaced = (above[j - 1] as number) + (one[i - 1] === other[j - 1] ? 0 : 1);
      row[j] = Math.min(replaced, (above[j] as number) + 1, (row[j - 1] as number) + 1);
    }
  }
  return row[other.length] as number;
}

/** The name that was probably meant; undefined if no name is similar. */
function nearest(word: string, names: readonly string[]): string | undefined {
  const letters = word.slice(0, 60).toLowerCase();
  const distances = names.map((name) => distance(letters, name.toLowerCase()));
  const least = Math.min(...distances);
  const found = names[distances.indexOf(least)];
  return found !== undefined && (least <= 2 || letters.startsWith(found.toLowerCase())) ? found : undefined;
}

/** TypeError with code `ERR_INVALID_ARG_VALUE`: there is no such option. */
function unknownOption(name: string, names: readonly string[]): TypeError {
  const meant = nearest(name, names);
  const question = meant === undefined ? '' : ` Did you mean '${meant}'?`;
  return invalidValue(
    `There is no option ${show(name)} here.${question} The options are: ${names.join(', ')}`,
  );
}

/** Programs may add properties to it, which every object then has. */
const commonPrototype = Object.prototype;
const { hasOwn } = Object;

/** The options of a caller that gives none. */
const noOptions = freeze({});

/**
 * An options object, or nothing, as it is now. Each option is read here, once, since a getter may do anything and return
 * something else the next time. An option that is not among `names` must be undefined: otherwise a misspelt option would
 * silently have no effect.
 */
export function readOptions<T extends object>(value: T | undefined, names: readonly string[]): Partial<T> {
  if (value === undefined) return noOptions as Partial<T>;
  if (!isObject(value)) throw invalidType('options', 'an object', value);
  next: for (const key in value) {
    for (let index = 0; index < names.length; index++) if (names[index] === key) continue next;
    if ((value as Record<string, unknown>)[key] === undefined || hasOwn(commonPrototype, key)) continue;
    throw unknownOption(key, names);
  }
  const options: Record<string, unknown> = {};
  for (let index = 0; index < names.length; index++) {
    const name = names[index] as string;
    options[name] = (value as Record<string, unknown>)[name];
  }
  return options as Partial<T>;
}

/** A boolean option, or nothing. */
export function checkFlag(value: unknown, name: string): boolean {
  if (value === undefined) return false;
  if (typeof value !== 'boolean') throw invalidType(name, 'a boolean', value);
  return value;
}

/** An AbortSignal, which may be of another realm or of a polyfill, or nothing. */
export function checkSignal(value: unknown): AbortSignal | undefined {
  if (value === undefined) return undefined;
  const signal = value as AbortSignal;
  const usable =
    isObject(value) &&
    typeof signal.aborted === 'boolean' &&
    typeof signal.addEventListener === 'function' &&
    typeof signal.removeEventListener === 'function';
  if (!usable) throw invalidType('signal', 'an AbortSignal', value);
  return signal;
}

/** The bytes of any view of memory; none if a TypedArray has lost its memory, as in JavaScript itself. */
export function checkView(value: unknown, name: string): Uint8Array {
  if (!ArrayBuffer.isView(value)) throw invalidType(name, 'a TypedArray, DataView or Buffer', value);
  if (value instanceof Uint8Array) return value;
  try {
    const length = value.byteLength;
    if (length === 0) return new Uint8Array(0);
    return new Uint8Array(value.buffer, value.byteOffset, length);
  } catch {
    // A DataView throws if its ArrayBuffer was detached or shrunk; a subclass may return anything.
    throw invalidValue(
      `The ${name} is a view that is not within its ArrayBuffer: was the ArrayBuffer shrunk or detached?`,
    );
  }
}
