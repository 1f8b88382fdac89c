// Every JavaScript block of the README and the guides is run as it stands, on a real kernel.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../..', import.meta.url));
/** Boots a guest itself, so it cannot run in one. */
const notHere = new Set(['docs/vm.md']);

const documents = ['README.md', ...readdirSync(`${root}/docs`).map((name) => `docs/${name}`)].filter(
  (name) => name.endsWith('.md') && !notHere.has(name),
);

for (const document of documents) {
  const blocks = readFileSync(`${root}/${document}`, 'utf8').matchAll(/^```js\n(.*?)^```$/gms);
  for (const [index, [, code]] of [...blocks].entries()) {
    test(`${document}: JavaScript block ${index + 1} runs`, () => {
      const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code as string], {
        cwd: root,
        encoding: 'utf8',
      });
      assert.equal(status, 0, stderr);
      assert.equal(stderr, '');
    });
  }
}
