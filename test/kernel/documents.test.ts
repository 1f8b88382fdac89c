// Every JavaScript block of the documents is run as it stands, on a real kernel. test/unit/documents.test.ts has the others.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { allBlocks, notInGuest, runByTools } from '../support/documents.js';
import { packageRoot } from '../support/programs.js';

for (const { document, line, language, code } of allBlocks()) {
  if (language !== 'js' || notInGuest.has(document) || runByTools.has(document)) continue;
  test(`${document}:${line}: the JavaScript runs`, () => {
    const { status, signal, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
      cwd: packageRoot,
      encoding: 'utf8',
      timeout: 120_000,
    });
    assert.equal(signal ?? status, 0, stderr);
    assert.equal(stderr, '');
  });
}
