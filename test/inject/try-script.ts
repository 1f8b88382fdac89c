// One script, all its injections.

import { type Injection, namesOf } from './calls.js';
import { type Judgement, judge, type Normal, type Verdict } from './judge.js';
import { describe, type Outcome } from './perform.js';
import type { Death, Performers } from './performers.js';
import { chosen, nextAllocation, planFor, type Thoroughness } from './plan.js';

/** What became of one injection, with all that is judged. */
export interface Recorded {
  readonly script: string;
  readonly injection: Injection;
  readonly outcome: Outcome | Death;
  readonly normal: Normal;
}

/** A script's line in the table. */
export interface Row {
  readonly script: string;
  /** Kinds of calls that it makes, and how many calls in all. */
  readonly kinds: number;
  readonly calls: number;
  readonly counts: Record<Verdict, number>;
  /** The same for each kind of call, by its label. */
  readonly byCall: ReadonlyMap<string, Record<Verdict, number>>;
  /** What is wrong, each once. */
  readonly wrongs: readonly string[];
  /** By which rules what else happened is right, and how often. */
  readonly allowed: ReadonlyMap<string, number>;
}

export const none = (): Record<Verdict, number> => ({
  errno: 0,
  code: 0,
  survived: 0,
  'not reached': 0,
  WRONG: 0,
});

/** libuv's pool and the addon's own threads have a bound; what grows with each failure has none. */
const moreThreads = 8;

/** Far more than any call makes: a process that dies each time must not be started for ever. */
const mostAllocations = 100_000;

/** Runs a script with each of its calls failing. */
export async function tryScript(
  script: string,
  performers: Performers,
  thoroughness: Thoroughness,
  onWrong: (text: string) => void = () => {},
  onOutcome: (recorded: Recorded) => void = () => {},
): Promise<Row> {
  const wrongs = new Set<string>();
  const allowed = new Map<string, number>();
  const counts = none();
  const byCall = new Map<string, Record<Verdict, number>>();
  const wrong = (text: string): void => {
    if (!wrongs.has(text)) onWrong(text);
    wrongs.add(text);
  };
  const rehearsal = await performers.perform({ script });
  if ('death' in rehearsal || rehearsal.outcome === undefined) {
    wrong(`though nothing fails: ${JSON.stringify(rehearsal)}`);
    return { script, kinds: 0, calls: 0, counts, byCall, wrongs: [...wrongs], allowed };
  }
  const { outcome: normal, calls = [] } = rehearsal;
  for (const flaw of [...normal.stray, ...normal.changes, ...(normal.hangs ? ['hangs'] : [])]) {
    wrong(`though nothing fails: ${flaw}`);
  }
  const settle = (injection: Injection, { verdict, why }: Judgement): void => {
    // That its last allocation has failed is known when no more does.
    if (injection.allocation !== undefined && verdict === 'not reached') return;
    counts[verdict]++;
    const { label } = namesOf(injection);
    const ofCall = byCall.get(label) ?? none();
    byCall.set(label, ofCall);
    ofCall[verdict]++;
    if (verdict === 'WRONG') wrong(`${describe(injection)}: ${why}`);
    else if (why !== '') allowed.set(why, (allowed.get(why) ?? 0) + 1);
  };
  let threads = normal.threads;
  const processes = performers.started;
  /** Whether something failed. */
  const attempt = async (planned: Injection): Promise<boolean> => {
    const reply = await performers.perform({ script, injection: planned });
    const outcome = 'death' in reply ? reply : reply.outcome;
    if (outcome === undefined) return false;
    const injection = 'errno' in outcome ? { ...planned, errno: outcome.errno ?? planned.errno } : planned;
    onOutcome({ script, injection, outcome, normal });
    settle(injection, judge(script, injection, outcome, normal));
    if ('threads' in outcome) threads = outcome.threads;
    return 'death' in outcome || outcome.hits > 0;
  };
  if (thoroughness.allocations) {
    for (const { function: name, detail, count } of calls) {
      for (const nth of chosen(count, thoroughness.most)) {
        const call = { function: name, detail, nth, of: count, errno: '', form: 'once' } as const;
        let allocation = 1;
        while (allocation < mostAllocations && (await attempt({ ...call, allocation }))) {
          allocation = nextAllocation(allocation);
        }
      }
    }
  } else {
    for (const injection of planFor(calls, thoroughness)) await attempt(injection);
  }
  if (performers.started === processes && threads > normal.threads + moreThreads) {
    wrong(`${threads - normal.threads} threads more than before`);
  }
  const total = calls.reduce((sum, { count }) => sum + count, 0);
  return { script, kinds: calls.length, calls: total, counts, byCall, wrongs: [...wrongs], allowed };
}
