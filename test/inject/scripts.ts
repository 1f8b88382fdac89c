import type { Scripts } from './script.js';
import { channels } from './scripts/channels.js';
import { fences } from './scripts/fences.js';
import { frames } from './scripts/frames.js';
import { inspection } from './scripts/inspection.js';
import { memory } from './scripts/memory.js';
import { streams } from './scripts/streams.js';

/** All of them. */
export const scripts: Scripts = {
  ...memory,
  ...fences,
  ...channels,
  ...streams,
  ...frames,
  ...inspection,
};
