// `dmabuf metrics`, and processes whose buffers it shows.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { parseExposition, type Sample } from './exposition.js';
import { packageRoot, type RunningProgram, startProgram } from './programs.js';
import { Service } from './services.js';

const program = join(packageRoot, 'dist/package/cli.js');

export function metricsCommand(args: readonly string[], options: object = {}): Service {
  return new Service(process.execPath, [program, 'metrics', ...args], options);
}

/** Starts the server on a free port; its URL without the path. */
export async function serving(
  args: readonly string[] = [],
  options: object = {},
): Promise<[Service, string]> {
  const service = metricsCommand(['--listen', '0', ...args], options);
  return [service, await service.says(/^dmabuf metrics: serving (http:.+)\/metrics$/)];
}

/** The metrics that are served. */
export async function get(url: string): Promise<Sample[]> {
  const response = await fetch(url);
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
  return parseExposition(await response.text());
}

/** A child that holds a buffer, of 8192 bytes unless it is another program, until the test's end at the latest. */
export async function holder(t: TestContext, program = 'holds'): Promise<RunningProgram<unknown>> {
  const child = startProgram(program);
  t.after(() => child.kill());
  await child.line();
  return child;
}

/** Ends such a child. */
export function endOf(child: RunningProgram<unknown>): Promise<void> {
  child.goOn();
  return child.end;
}
