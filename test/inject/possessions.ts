// What a process holds of the kernel's, to compare before and after.

import { readdirSync } from 'node:fs';
import { allocateSync, openHandles } from 'dmabuf';
import { look } from './intercept.js';

/** Descriptors and mappings in words, and how many objects of the package are open. */
export interface Possessions {
  readonly files: readonly string[];
  readonly handles: number;
}

export function possessions(): Possessions {
  // The heap that the package keeps open is there at each look, whatever has failed before.
  allocateSync(4096, { from: 'system' }).close();
  return { files: look(), handles: openHandles().length };
}

/** How many threads the process has. */
export function threadCount(): number {
  return readdirSync('/proc/self/task').length;
}

/** What there is now and was not before, or the other way round. */
export function differences(before: Possessions, now: Possessions): string[] {
  const changes: string[] = [];
  for (const one of now.files) if (!before.files.includes(one)) changes.push(`left: ${one}`);
  for (const one of before.files) if (!now.files.includes(one)) changes.push(`lost: ${one}`);
  if (now.handles !== before.handles) changes.push(`openHandles(): ${now.handles - before.handles} more`);
  return changes;
}
