// Preloaded into programs (--import): says on standard error what they have not closed when they end, which is too early
// for the garbage collector to warn of it.

import { openHandles } from 'dmabuf';

process.on('exit', () => {
  for (const { type, name } of openHandles()) console.error('not closed:', type, name);
});
