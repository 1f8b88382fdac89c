import { existsSync, readFileSync } from 'node:fs';

/**
 * The contents of a small file of the kernel's; undefined where it cannot be read. What is not there is not opened: Node.js
 * aborts the process where a worker that is being terminated would be told so by an exception (seen with 20.20).
 */
export function textOf(path: string): string | undefined {
  try {
    return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
  } catch {
    return undefined;
  }
}
