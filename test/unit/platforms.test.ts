import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { packageRoot } from '../support/programs.js';

interface Platforms {
  table(): string;
  tableInReadme(): string | undefined;
}

test("the README's table of platforms is what the commands last showed", async () => {
  const script = pathToFileURL(join(packageRoot, 'scripts/platforms.mjs')).href;
  const { table, tableInReadme } = (await import(script)) as Platforms;
  assert.equal(tableInReadme(), table(), 'node scripts/platforms.mjs writes it');
});
