import { existsSync, readdirSync, readFileSync } from 'node:fs';

// Files that may be missing are checked before they are read: if readFileSync() or readdirSync() throws in a worker that
// is being terminated, Node.js aborts the process (seen with 20.20).

/** The contents of a small file of the kernel; undefined if it cannot be read. */
export function bytesOf(path: string): Buffer | undefined {
  try {
    return existsSync(path) ? readFileSync(path) : undefined;
  } catch {
    return undefined;
  }
}

/** The same as text. */
export function textOf(path: string): string | undefined {
  return bytesOf(path)?.toString();
}

/** The names of the folders in a folder; undefined if they cannot be read. */
export function foldersIn(folder: string): string[] | undefined {
  try {
    if (!existsSync(folder)) return undefined;
    const entries = readdirSync(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  } catch {
    return undefined;
  }
}

/** The names in a folder; undefined if they cannot be read. */
export function namesIn(folder: string): string[] | undefined {
  try {
    return existsSync(folder) ? readdirSync(folder) : undefined;
  } catch {
    return undefined;
  }
}
