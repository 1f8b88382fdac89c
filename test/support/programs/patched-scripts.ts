// Runs the scripts of the fault injection while the engine's own functions misbehave, one at a time: names come from the
// parent, and what became of each goes back.

import { openSync, readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import * as core from 'dmabuf';
import * as frame from 'dmabuf/frame';
import * as inspect from 'dmabuf/inspect';
import * as metrics from 'dmabuf/metrics';
import type { Script, Tools } from '../../inject/script.js';
import { scripts } from '../../inject/scripts.js';
import { engine, type Manner, manners, misbehave, observe, setPatching, type Use } from '../patches.js';

/** What became of a script. */
export interface PatchedReply {
  /** How often it was run with a function that misbehaved. */
  readonly runs: number;
  /** What is wrong, each once. */
  readonly wrongs: readonly string[];
}

interface Addon {
  readonly registers: Float64Array;
  readonly unclaimed: Float64Array;
}

/** Loads the addon, and says what it exports, which the package shows nobody. */
function captureAddon(): Addon {
  const { dlopen } = process;
  let addon: Addon | undefined;
  process.dlopen = (module, ...rest) => {
    dlopen.call(process, module, ...(rest as [string]));
    addon = (module as { exports: Addon }).exports;
  };
  core.openHandles();
  process.dlopen = dlopen;
  return addon as Addon;
}

const addon = captureAddon();
const secrets = new Map<unknown, string>();
for (const name of ['registers', 'unclaimed'] as const) {
  secrets.set(addon[name], name).set(addon[name].buffer, `the memory of ${name}`);
}

const stray: string[] = [];
const record = (error: unknown): void => void stray.push(String((error as Error)?.stack ?? error));
process.on('unhandledRejection', record);
process.on('uncaughtException', record);

const buffer = core.allocateSync(65536, { from: 'system', name: 'fixture' });
const small = core.allocateSync(4096, { from: 'system' });
let names = 0;

/** What has to be the same afterwards. */
function possessions(): string {
  const files: string[] = [];
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      files.push(`${fd} ${readlinkSync(`/proc/self/fd/${fd}`).replace(/^(\/dmabuf:).*/, '$1')}`);
    } catch {
      // The descriptor of the listing itself.
    }
  }
  return JSON.stringify({ files, handles: core.openHandles() });
}

async function settled(before: string): Promise<string | undefined> {
  for (let tries = 0; ; tries++) {
    await (tries < 20 ? turn() : pause(5));
    const now = possessions();
    if (now === before) return undefined;
    if (tries > 300) return `before ${before}, after ${now}`;
    if (tries % 30 === 5) globalThis.gc?.();
    // Closes what the addon has yielded and nobody has claimed.
    if (tries === 10) buffer.dup().close();
    // Has the closer of foreign files take up what waits.
    if (tries === 15) core.closeHandles([openSync('/etc/hostname', 'r')]);
  }
}

/** Long enough for everything but a hang. */
const endless = 30_000;

/** Runs a script, with patches from `begin()` to `end()`; says what is wrong with how it ended. */
async function run(script: Script): Promise<string[]> {
  const before = possessions();
  const owned: (() => void)[] = [];
  let isOver = false;
  const tools: Tools = {
    core,
    frame,
    inspect,
    metrics,
    buffer,
    small,
    begin: () => setPatching(true),
    end: () => setPatching(false),
    own(object) {
      if (isOver) object.close();
      else owned.push(() => object.close());
      return object;
    },
    after: (fn) => void owned.push(fn),
    name: () => `@dmabuf-patched-${process.pid}-${++names}`,
  };
  stray.length = 0;
  const wrongs: string[] = [];
  const limit = new AbortController();
  const outcome = (async (): Promise<boolean> => {
    try {
      await script(tools);
    } catch {
      // The patch has been felt.
    }
    return false;
  })();
  const hangs = pause(endless, true, { signal: limit.signal, ref: true }).catch(() => false);
  if (await Promise.race([outcome, hangs])) wrongs.push('never ended');
  limit.abort();
  setPatching(false);
  isOver = true;
  for (const close of owned.reverse()) {
    try {
      close();
    } catch {
      // It was never whole.
    }
  }
  const left = await settled(before);
  if (left !== undefined) wrongs.push(`left something behind: ${left}`);
  return [...wrongs, ...stray.map((text) => `out of nowhere: ${text}`)];
}

async function runPatched(script: Script, use: Use, manner: Manner): Promise<string[]> {
  const lift = misbehave(use, manner);
  try {
    const wrongs = await run(script);
    return wrongs.map((wrong) => `${use.intrinsic.name} ${manner} at ${use.site}: ${wrong}`);
  } finally {
    lift();
  }
}

/** What is to be tried with a script, and what is wrong already. */
interface Rehearsal {
  readonly uses: Use[];
  readonly wrongs: string[];
}

/** Finds out where the package uses which of the engine's functions, in each script where none before has. */
async function rehearse(): Promise<Map<string, Rehearsal>> {
  const rehearsals = new Map<string, Rehearsal>();
  const known = new Set<string>();
  let current: Rehearsal = { uses: [], wrongs: [] };
  const lift = observe(
    (value) => secrets.get(value),
    (use, internal) => {
      const about = `${use.intrinsic.name} at ${use.site}`;
      if (known.has(about)) return;
      known.add(about);
      current.uses.push(use);
      if (internal.length > 0) current.wrongs.push(`${about} was given ${internal}`);
    },
  );
  for (const [name, script] of Object.entries(scripts)) {
    current = { uses: [], wrongs: [] };
    rehearsals.set(name, current);
    known.delete(`Promise.prototype.then at ${engine}`);
    current.wrongs.push(...(await run(script)));
  }
  lift();
  return rehearsals;
}

let rehearsals: Map<string, Rehearsal> | undefined;

async function perform(name: string): Promise<PatchedReply> {
  rehearsals ??= await rehearse();
  const { uses, wrongs } = rehearsals.get(name) as Rehearsal;
  const found = new Set(wrongs);
  for (const use of uses) {
    for (const manner of manners) {
      for (const wrong of await runPatched(scripts[name] as Script, use, manner)) found.add(wrong);
    }
  }
  return { runs: uses.length * manners.length, wrongs: [...found] };
}

process.on('message', async (name: string) => {
  process.send?.(await perform(name));
});

// By hand: the names of scripts, or none for all.
if (process.send === undefined) {
  const wanted = process.argv.slice(2);
  for (const name of Object.keys(scripts).filter((one) => wanted.length === 0 || wanted.includes(one))) {
    const { runs, wrongs } = await perform(name);
    process.stdout.write(`${[`${name}: ${runs} runs`, ...wrongs].join('\n  ')}\n`);
  }
  process.exit();
}
