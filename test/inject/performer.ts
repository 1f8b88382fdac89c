// The process that runs scripts while their calls fail: commands come as lines of JSON on its standard input, and what
// became of each goes out on descriptor 3. When a script kills it, or hangs it, main.ts starts another.

import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import * as core from 'dmabuf';
import * as frame from 'dmabuf/frame';
import * as inspect from 'dmabuf/inspect';
import * as metrics from 'dmabuf/metrics';
import type { Call, Injection } from './calls.js';
import { Coverage } from './coverage.js';
import { intercept } from './intercept.js';
import { type Outcome, perform, rehearse, watchForStray } from './perform.js';
import type { Script } from './script.js';
import { scripts } from './scripts.js';

/** A script to run: with the injection, or as ever. Without a script: all, to see what of the package they use. */
export interface Command {
  readonly script?: string;
  readonly injection?: Injection;
}

/** What became of it; without an injection also which calls it made. */
export interface Reply {
  readonly outcome?: Outcome;
  readonly calls?: readonly (Call & { count: number })[];
  /** Without a script: the public functions that none calls. */
  readonly missing?: readonly string[];
}

// Loads the addon.
core.openHandles();
intercept();
watchForStray();

async function cover(): Promise<Reply> {
  const coverage = new Coverage({ core, frame, inspect, metrics });
  for (const script of Object.values(scripts)) await perform(script, undefined, coverage.packages);
  return { missing: coverage.missing() };
}

async function obey({ script, injection }: Command): Promise<Reply> {
  if (script === undefined) return cover();
  const body = scripts[script] as Script;
  return injection === undefined ? rehearse(body) : { outcome: await perform(body, injection) };
}

createInterface({ input: process.stdin }).on('line', async (line) => {
  writeSync(3, `${JSON.stringify(await obey(JSON.parse(line) as Command))}\n`);
});
