// Every JavaScript block of the documents is run as it stands, on a real kernel, in a project that has this package and what
// the document says to install, and nothing else. test/unit/documents.test.ts has the other blocks.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { after, test } from 'node:test';
import {
  allBlocks,
  notInGuest,
  outputIn,
  packagesToInstall,
  runByTools,
} from '../../../support/documents.js';
import { installCopy, linkPackages } from '../../../support/installed.js';

const projects = new Map<string, string>();
after(() => {
  for (const project of projects.values()) rmSync(project, { recursive: true });
});

function projectOf(document: string): string {
  let project = projects.get(document);
  if (project === undefined) {
    ({ project } = installCopy());
    linkPackages(project, packagesToInstall(document));
    projects.set(document, project);
  }
  return project;
}

for (const { document, line, language, code } of allBlocks()) {
  if (language !== 'js' || notInGuest.has(document) || runByTools.has(document)) continue;
  test(`${document}:${line}: the JavaScript runs, and prints what it says`, () => {
    const { status, signal, stdout, stderr } = spawnSync(
      process.execPath,
      ['--input-type=module', '-e', code],
      { cwd: projectOf(document), encoding: 'utf8', timeout: 120_000 },
    );
    assert.equal(signal ?? status, 0, stderr);
    assert.equal(stderr, '');
    const lines = stdout.split('\n');
    for (const said of outputIn(code)) {
      const isSaid = (line: string): boolean =>
        said.endsWith('…') ? line.startsWith(said.slice(0, -1)) : line === said;
      assert.ok(lines.some(isSaid), `there is no line '${said}' in:\n${stdout}`);
    }
  });
}
