import { type Access, accessModeOf, checkFlag, checkName, checkSize } from '../check.js';

/** The properties of a new buffer. */
export interface BufferOptions {
  /** The name for debugging tools: at most 31 bytes of UTF-8, without NUL. */
  name?: string | undefined;
  /**
   * The access mode of the file descriptor, and of its duplicates in all processes. Default `'read-write'`, the only
   * one that can be mapped for JavaScript and that udmabuf supports.
   */
  access?: Access | undefined;
  /** Whether to skip the memory guard: the kernel then kills processes instead of refusing. Default false. */
  unchecked?: boolean | undefined;
}

/** The names of the options. */
export const bufferOptions: readonly string[] = ['name', 'access', 'unchecked'];

/** A request for a buffer that was checked, once, where the user made it. */
export interface BufferRequest {
  /** The requested size in bytes. */
  readonly size: number;
  readonly name: string | undefined;
  /** The access mode for open(2). */
  readonly accessMode: number;
  /** Whether the memory guard is skipped. */
  readonly unchecked: boolean;
}

/** The access mode of a buffer that can be mapped for JavaScript. */
export const readWrite: number = accessModeOf('read-write');

/** Checks a request; the options have been read. */
export function checkRequest(
  size: number,
  { name, access = 'read-write', unchecked }: BufferOptions,
): BufferRequest {
  return {
    size: checkSize(size),
    accessMode: accessModeOf(access),
    name: name === undefined ? name : checkName(name),
    unchecked: checkFlag(unchecked, 'unchecked'),
  };
}
