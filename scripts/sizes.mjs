// How long a file may be: one that is longer does more than one thing.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Most lines of a file below each folder. */
export const most = { lib: 400, native: 400, scripts: 400, test: 500 };

const isSource = /\.(ts|mts|cts|mjs|js|cc|c|h)$/;

function* sourcesIn(root, folder) {
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    // Of what is built there.
    if (entry.isDirectory() && entry.name !== 'build') yield* sourcesIn(root, path);
    else if (entry.isFile() && isSource.test(entry.name)) yield path;
  }
}

/** The files that are too long, in words. */
export function filesTooLong(root) {
  const found = [];
  for (const [folder, limit] of Object.entries(most)) {
    for (const path of sourcesIn(root, folder)) {
      const lines = readFileSync(join(root, path), 'utf8').split('\n').length - 1;
      if (lines > limit) found.push(`${path} has ${lines} lines, more than ${limit}: split it`);
    }
  }
  return found;
}
