// Whether what became of a script is right.

import { type Injection, namesOf, numberOf } from './calls.js';
import type { Outcome } from './perform.js';
import type { Death } from './performers.js';
import type { Rule } from './rule.js';
import { rules } from './rules.js';

/** How it went: with the call's own errno, with a code that is documented for it, as if nothing had happened, not at all. */
export type Verdict = 'errno' | 'code' | 'survived' | 'not reached' | 'WRONG';

export interface Judgement {
  readonly verdict: Verdict;
  /** What is wrong, or the rule that allows it. */
  readonly why: string;
}

const wrong = (why: string): Judgement => ({ verdict: 'WRONG', why });

/** What a script does when nothing fails. */
export type Normal = Pick<Outcome, 'result' | 'failure'>;

function shown({ result, failure }: Normal): string {
  if (failure === undefined) return `returns ${result}`;
  const { name, code, syscall, message } = failure;
  return `throws ${name} ${code} ${syscall}: ${message}`;
}

/** Judges one run of a script with one failing call. */
export function judge(
  script: string,
  injection: Injection,
  outcome: Outcome | Death,
  normal: Normal,
): Judgement {
  if ('death' in outcome) return wrong(`${outcome.death}: ${outcome.said}`);
  if (outcome.hangs) return wrong('hangs');
  if (outcome.stray.length > 0) return wrong(`unhandled: ${outcome.stray.join('; ')}`);
  if (outcome.changes.length > 0) return wrong(`${outcome.changes.join('; ')} (${shown(outcome)})`);
  const same =
    outcome.result === normal.result &&
    outcome.failure?.code === normal.failure?.code &&
    outcome.failure?.syscall === normal.failure?.syscall;
  if (outcome.hits === 0)
    return same ? { verdict: 'not reached', why: '' } : wrong(`unasked: ${shown(outcome)}`);
  const { label, syscall } = namesOf(injection);
  const { failure } = outcome;
  const { errno } = injection;
  if (injection.allocation !== undefined && errno === '') {
    if (same) return { verdict: 'survived', why: 'the kernel itself has coped' };
    return wrong(`though the call has succeeded: ${shown(outcome)}, not ${shown(normal)}`);
  }
  if (failure !== undefined && failure.name === 'DmaBufError' && failure.code === errno) {
    if (failure.errno !== -numberOf(errno)) return wrong(`errno ${failure.errno}: ${shown(outcome)}`);
    // Errors of readlinkat(2) and the like go by the shorter name.
    if (failure.syscall === syscall || `${failure.syscall}at` === syscall)
      return { verdict: 'errno', why: '' };
  }
  if (failure?.attempts.some((one) => one.code === errno && one.syscall === syscall)) {
    return { verdict: 'code', why: 'every source refused, this one with the errno' };
  }
  const mentions = ({ mentions: what }: Rule): boolean =>
    what === undefined || (outcome.result ?? '').includes(what === true ? errno : what);
  const allows = (rule: Rule): boolean => {
    if (same) return rule.survives === true;
    if (failure === undefined) return rule.survives === 'differently' && mentions(rule);
    return rule.code?.test(`${failure.code} ${failure.syscall}`) === true;
  };
  const rule = rules.find(
    (one) =>
      one.calls.test(label) &&
      (one.scripts?.test(script) ?? true) &&
      (one.errnos?.test(errno) ?? true) &&
      (one.form === undefined || one.form === injection.form) &&
      (one.last === undefined || injection.nth > injection.of - one.last) &&
      allows(one),
  );
  if (rule !== undefined) {
    return { verdict: failure === undefined || same ? 'survived' : 'code', why: rule.why };
  }
  return wrong(shown(outcome) + (failure === undefined && !same ? `, not ${normal.result}` : ''));
}
