// A worker that takes snapshots from all sources at once, several of each, over and over, and says each time that it has
// begun.

import { parentPort } from 'node:worker_threads';
import { snapshot } from 'dmabuf/inspect';
import { allSources } from './inspect.js';

for (;;) {
  const all = [...allSources, ...allSources, ...allSources].map((source) => snapshot({ source }));
  parentPort?.postMessage('looks');
  await Promise.all(all);
}
