import { accessSync, constants, existsSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { VmError } from './errors.js';

/** The folder everything fetched is kept in: `$XDG_CACHE_HOME/dmabuf`, or `~/.cache/dmabuf`. */
export function cacheFolder(): string {
  const base = process.env.XDG_CACHE_HOME;
  return join(base?.startsWith('/') ? base : join(homedir(), '.cache'), 'dmabuf');
}

/** Makes a folder in the cache that can be written, with those above it. */
export function makeFolder(path: string): void {
  try {
    makeFolders(path);
    accessSync(path, constants.W_OK);
  } catch (error) {
    throw cacheError((error as Error).message, error);
  }
}

/** Makes a folder and those above it. Not with `recursive`, which never comes back below /proc (Node.js 20). */
export function makeFolders(path: string): void {
  const missing: string[] = [];
  for (let folder = path; !existsSync(folder); folder = dirname(folder)) missing.unshift(folder);
  for (const folder of missing) makeOne(folder);
}

function makeOne(folder: string): void {
  try {
    mkdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error; // Another process was first.
  }
}

/** The cache cannot be read or written. */
export function cacheError(reason: string, cause?: unknown): VmError {
  return new VmError('ERR_DMABUF_VM_STORAGE', `the cache folder ${cacheFolder()} cannot be used: ${reason}`, {
    hint: 'Set XDG_CACHE_HOME to a folder that can be written and has 500 MB free',
    cause,
  });
}

/** Runs `work`, which uses the cache and nothing else: a system call that fails there is the cache's fault. */
export async function usingCache<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof VmError || typeof (error as NodeJS.ErrnoException).errno !== 'number') throw error;
    throw cacheError((error as Error).message, error);
  }
}
