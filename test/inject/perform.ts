// One script, one failing call: what becomes of it.

import { openSync } from 'node:fs';
import * as core from 'dmabuf';
import * as frame from 'dmabuf/frame';
import * as inspect from 'dmabuf/inspect';
import * as metrics from 'dmabuf/metrics';
import { type Call, type Injection, nameOf, namesOf } from './calls.js';
import { allocationOutcome, counts, start, stop } from './intercept.js';
import { differences, type Possessions, possessions, threadCount } from './possessions.js';
import type { Packages, Script, Tools } from './script.js';

/** An error as far as it is judged. */
export interface Failure {
  readonly name: string;
  readonly code?: string | undefined;
  readonly errno?: number | undefined;
  readonly syscall?: string | undefined;
  readonly message: string;
  /** Of the sources that were tried: their codes and calls. */
  readonly attempts: readonly { code: string; syscall?: string | undefined }[];
}

/** What became of a script. */
export interface Outcome {
  /** How many calls failed; 0 where the script did not come that far. */
  readonly hits: number;
  /** Where the kernel's allocation has failed: the call's errno, or empty. */
  readonly errno?: string | undefined;
  /** What it returned, as JSON. */
  readonly result?: string;
  readonly failure?: Failure;
  /** It did not end. */
  readonly hangs?: true;
  /** Rejections that nobody handled, and exceptions out of nowhere. */
  readonly stray: readonly string[];
  /** Left behind, or lost. */
  readonly changes: readonly string[];
  readonly threads: number;
}

/** Long enough for everything but a hang, under emulation beside busy neighbours. */
const endless = 60_000;

const stray: string[] = [];

/** Has unhandled rejections recorded, not end the process. */
export function watchForStray(): void {
  const record = (error: unknown): void => void stray.push(String((error as Error)?.stack ?? error));
  process.on('unhandledRejection', record);
  process.on('uncaughtException', record);
}

function failureOf(error: unknown): Failure {
  const { name, code, errno, syscall, message, attempts } = error as core.DmaBufError;
  return {
    name,
    code,
    errno,
    syscall,
    message: String(message),
    attempts: (attempts ?? []).map(({ error: { code, syscall } }) => ({ code, syscall })),
  };
}

let fixtures: Pick<Tools, 'buffer' | 'small'> | undefined;
let names = 0;

/** What there was after the last script, if that has left nothing: to look takes longer than most scripts. */
let known: Possessions | undefined;

async function settled(before: Possessions, injection: Injection | undefined): Promise<string[]> {
  // What is closed asynchronously is closed within a few turns; threads of the addon's own take their time on a busy machine.
  const limit = performance.now() + 10_000;
  for (let turn = 0; ; turn++) {
    await new Promise((resolve) => (turn < 20 ? setImmediate(resolve) : setTimeout(resolve, 5)));
    const now = possessions();
    const changes = differences(before, now);
    known = changes.length === 0 ? now : undefined;
    if (changes.length === 0 || (turn > 100 && performance.now() > limit)) return changes;
    if (turn === 20) globalThis.gc?.();
    // A file for which no thread could be created waits until the next foreign file is closed; nothing closes it on the
    // calling thread.
    if (turn === 30 && injection?.function === 'pthread_create') {
      core.closeHandles([openSync('/etc/hostname', 'r')]);
    }
  }
}

/** Runs a script while `injection` rules. */
export async function perform(
  script: Script,
  injection?: Injection,
  packages: Packages = { core, frame, inspect, metrics },
): Promise<Outcome> {
  fixtures ??= {
    buffer: core.allocateSync(65536, { from: 'system', name: 'fixture' }),
    small: core.allocateSync(4096, { from: 'system' }),
  };
  const before = known ?? possessions();
  const owned: (() => void)[] = [];
  const tools: Tools = {
    ...packages,
    ...fixtures,
    begin: () => start(injection),
    end() {
      hits = stop();
    },
    own(object) {
      // What comes when the script is over is closed at once.
      if (isOver) object.close();
      else owned.push(() => object.close());
      return object;
    },
    after: (fn) => void owned.push(fn),
    name: () => `@dmabuf-inject-${process.pid}-${++names}`,
  };
  let hits = 0;
  let isOver = false;
  let outcome: Pick<Outcome, 'result' | 'failure' | 'hangs'>;
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<typeof outcome>((resolve) => {
    timer = setTimeout(() => resolve({ hangs: true }), endless);
  });
  const run = async (): Promise<typeof outcome> => {
    try {
      return { result: JSON.stringify(await script(tools)) };
    } catch (error) {
      return { failure: failureOf(error) };
    }
  };
  stray.length = 0;
  // Of a script that ends before it begins, no calls are counted.
  start();
  stop();
  outcome = await Promise.race([run(), limit]);
  clearTimeout(timer);
  hits = Math.max(hits, stop());
  const made = allocationOutcome();
  isOver = true;
  for (const close of owned.reverse()) {
    try {
      close();
    } catch (error) {
      stray.push(`closing afterwards: ${(error as Error).message}`);
    }
  }
  const changes = await settled(before, injection);
  const errno = made === undefined || made === 0 ? undefined : nameOf(made);
  return { hits, errno, ...outcome, changes, threads: threadCount(), stray: [...stray] };
}

/** Which calls a script makes, and what it returns when none of them fails. */
export async function rehearse(
  script: Script,
): Promise<{ outcome: Outcome; calls: (Call & { count: number })[] }> {
  // Twice: the first may open what is kept for ever.
  await perform(script);
  const outcome = await perform(script);
  return { outcome, calls: counts().filter(({ count }) => count > 0) };
}

/** The injection in words. */
export function describe(injection: Injection): string {
  const { nth, errno, form, allocation } = injection;
  const what = allocation === undefined ? form : `by allocation ${allocation}`;
  return `${namesOf(injection).label} #${nth} ${errno} ${what}`;
}
