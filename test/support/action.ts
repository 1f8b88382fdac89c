// The GitHub Action of this repository, and what of GitHub's runner its shell steps need. GitHub itself is not imitated: steps
// that use other actions are left out, and an expression that is not among those here is an error.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';
import { packageRoot } from './programs.js';

/** A step of a composite action. */
export interface Step {
  id?: string;
  name?: string;
  if?: string;
  uses?: string;
  shell?: string;
  run?: string;
  env?: Record<string, string>;
  with?: Record<string, string>;
  'working-directory'?: string;
}

/** What action.yml says. */
export interface Action {
  name: string;
  description: string;
  inputs: Record<string, { description: string; required?: boolean; default?: string }>;
  runs: { using: string; steps: Step[] };
}

/** Reads action.yml. */
export function readAction(): Action {
  return parse(readFileSync(join(packageRoot, 'action.yml'), 'utf8')) as Action;
}

/** Runs the shell steps in a folder, as GitHub's runner does, up to the first that fails. */
export function runAction(
  given: Record<string, string>,
  { cwd, env = {} }: { cwd: string; env?: NodeJS.ProcessEnv },
): { status: number; stdout: string; stderr: string; outputs: Record<string, Record<string, string>> } {
  const { inputs, runs } = readAction();
  for (const name of Object.keys(given)) assert.ok(name in inputs, `there is no input ${name}`);
  const outputs: Record<string, Record<string, string>> = {};
  const evaluated = (expression: string): string => {
    const [kind, name = '', , output = ''] = expression.split('.');
    if (kind === 'inputs') return given[name] ?? inputs[name]?.default ?? '';
    assert.equal(kind, 'steps', `nothing here knows the expression ${expression}`);
    return outputs[name]?.[output] ?? '';
  };
  const filled = (text: string): string =>
    text.replace(/\$\{\{ (\S+) \}\}/g, (_, expression: string) => evaluated(expression));
  const holds = (condition: string): boolean => {
    const [, expression = '', value] = /^(\S+) == '(.*)'$/.exec(condition) ?? [];
    return evaluated(expression) === value;
  };
  const temporary = mkdtempSync(join(tmpdir(), 'dmabuf-action-'));
  let [stdout, stderr] = ['', ''];
  try {
    for (const [index, step] of runs.steps.entries()) {
      if (step.run === undefined || (step.if !== undefined && !holds(step.if))) continue;
      const [script, output] = [join(temporary, `${index}.sh`), join(temporary, `${index}.output`)];
      writeFileSync(script, step.run);
      writeFileSync(output, '');
      const own = Object.fromEntries(
        Object.entries(step.env ?? {}).map(([key, text]) => [key, filled(text)]),
      );
      const folder = join(cwd, filled(step['working-directory'] ?? '.'));
      mkdirSync(folder, { recursive: true });
      const ended = spawnSync('bash', ['--noprofile', '--norc', '-eo', 'pipefail', script], {
        cwd: folder,
        encoding: 'utf8',
        env: { ...process.env, ...env, ...own, GITHUB_OUTPUT: output, RUNNER_TEMP: temporary },
      });
      stdout += ended.stdout;
      stderr += ended.stderr;
      if (ended.status !== 0) return { status: ended.status ?? 1, stdout, stderr, outputs };
      if (step.id !== undefined) outputs[step.id] = outputsOf(readFileSync(output, 'utf8'));
    }
    return { status: 0, stdout, stderr, outputs };
  } finally {
    rmSync(temporary, { recursive: true });
  }
}

/** `name=value`, or `name<<END`, lines, `END`. */
function outputsOf(text: string): Record<string, string> {
  const outputs: Record<string, string> = {};
  for (const [, name, value, longName, longValue] of text.matchAll(
    /^(?:([\w-]+)=([^\n]*)|([\w-]+)<<END\n(.*?)\nEND)$/gms,
  )) {
    outputs[(name ?? longName) as string] = (value ?? longValue) as string;
  }
  return outputs;
}
