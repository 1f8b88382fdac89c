import { adviceOnWaiting } from '../buffer/advice.js';
import { adviceOnThreads, textOfHint } from '../errors.js';
import { adviceOnProcesses } from '../rights.js';
import type { Unreadable } from './model.js';

/** The names of the errnos that prevented processes from being read, each once. */
export function causesOf(unreadable: readonly Unreadable[]): string[] {
  return [...new Set(unreadable.map(({ error }) => error))];
}

/** What to do about processes that could not be read, for each cause that can be fixed. */
export function adviceOnUnreadable(unreadable: readonly Unreadable[]): string | undefined {
  const causes = causesOf(unreadable);
  const advice: string[] = [];
  if (causes.includes('EACCES') || causes.includes('EPERM')) advice.push(adviceOnProcesses());
  // Only the thread that watches an inspection can be refused in this way: other inspections wait for the process that
  // blocks them.
  if (causes.includes('EAGAIN') && !causes.includes('ETIMEDOUT')) advice.push(adviceOnThreads);
  if (causes.includes('ETIMEDOUT')) advice.push(adviceOnWaiting);
  return advice.length > 0 ? textOfHint(advice) : undefined;
}
