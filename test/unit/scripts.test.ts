import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../support/programs.js';

/** What a script and the scripts below it import before their first line runs, besides each other. */
function importedFirst(script: string, seen = new Set<string>()): string[] {
  if (seen.has(script)) return [];
  seen.add(script);
  const text = readFileSync(join(packageRoot, script), 'utf8');
  const specifiers = [...text.matchAll(/^(?:import|export)(?: [^=;]+? from)? '([^']+)';$/gm)].map(
    ([, name]) => name ?? '',
  );
  return specifiers.flatMap((name) =>
    name.startsWith('.') ? importedFirst(join(dirname(script), name), seen) : [`${script}: ${name}`],
  );
}

test('a script that npm runs in a fresh clone imports no package before it has installed them', () => {
  const { scripts } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  const started = Object.values(scripts).flatMap((line) => line.match(/scripts\/[\w-]+\.mjs/g) ?? []);
  assert.ok(started.length > 10);
  const imported = started.flatMap((script) => importedFirst(script));
  assert.ok(imported.some((line) => line.includes(': node:')));
  assert.deepEqual(
    imported.filter((line) => !line.includes(': node:')),
    [],
  );
});
