import { existsSync, readdirSync, readFileSync } from 'node:fs';

// What may not be there is not asked for: Node.js aborts the process where a worker that is being terminated would be told so
// by an exception (seen with 20.20, in readFileSync() and readdirSync()).

/** The contents of a small file of the kernel's; undefined where it cannot be read. */
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

/** The names of the folders in a folder; undefined where they cannot be read. */
export function foldersIn(folder: string): string[] | undefined {
  try {
    if (!existsSync(folder)) return undefined;
    const entries = readdirSync(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  } catch {
    return undefined;
  }
}

/** The names in a folder; undefined where they cannot be read. */
export function namesIn(folder: string): string[] | undefined {
  try {
    return existsSync(folder) ? readdirSync(folder) : undefined;
  } catch {
    return undefined;
  }
}
