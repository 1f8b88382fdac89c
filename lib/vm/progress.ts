import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

const INTERVAL_MS = 5000;

/**
 * Tells what is being done now, and every few seconds that it goes on, with the size a folder has reached.
 * Call the function returned when it is done.
 */
export function keepTelling(progress: (message: string) => void, what: string, folder?: string): () => void {
  const started = Date.now();
  progress(`${what} …`);
  const timer = setInterval(() => {
    const seconds = Math.round((Date.now() - started) / 1000);
    const size = folder === undefined ? '' : `, ${Math.round(folderSize(folder) / 1e6)} MB`;
    progress(`${what}: still at it after ${seconds} s${size}`);
  }, INTERVAL_MS);
  return () => clearInterval(timer);
}

function folderSize(folder: string): number {
  let size = 0;
  try {
    for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      size += statSync(join(folder, path), { throwIfNoEntry: false })?.size ?? 0;
    }
  } catch {
    // files come and go while they are counted
  }
  return size;
}
