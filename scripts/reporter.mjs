// A reporter of node:test for scripts/test.mjs: what happened as lines of JSON behind a mark, on standard error, since a
// guest's files go with it. People read the spec reporter's text beside it.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const mark = '\u001edmabuf-test ';

// Node tells of tests where they were made, which may be a file of test/support, and of files only those that failed. So
// each file says here itself how it ended (test/support/end-of-file.ts); those that are started inherit the variable.
const folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-files-'));
process.env.DMABUF_TEST_FILES = folder;

function outcomeOf({ type, data }) {
  return {
    outcome: type === 'test:pass' ? 'pass' : 'fail',
    name: data.name,
    file: data.file,
    kind: data.details?.type ?? 'test',
    skip: data.skip,
    todo: data.todo,
    failure: data.details?.error?.failureType,
  };
}

// biome-ignore lint/style/noDefaultExport: node:test wants it so.
export default async function* report(source) {
  for await (const event of source) {
    if (event.type === 'test:pass' || event.type === 'test:fail') {
      yield `${mark}${JSON.stringify(outcomeOf(event))}\n`;
    }
  }
  for (const name of readdirSync(folder)) {
    yield `${mark}{"outcome":"file",${readFileSync(join(folder, name), 'utf8').slice(1)}\n`;
  }
  rmSync(folder, { recursive: true });
  yield `${mark}{"outcome":"end"}\n`;
}
