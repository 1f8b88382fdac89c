// A reporter of node:test for scripts/test.mjs: what happened as lines of JSON behind a mark, on standard error, since a
// guest's files go with it. People read the spec reporter's text beside it.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';

export const mark = '\u001edmabuf-test ';

// Node tells of tests where they were made, which may be a file of test/support, and of files only those that failed. So
// each file says here itself how it ended (test/support/end-of-file.ts); those that are started inherit the variable.
const folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-files-'));
process.env.DMABUF_TEST_FILES = folder;

/** The error whole: with what node:test wraps taken off, its difference, and what it has besides. */
function textOf(error) {
  const cause = error?.cause ?? error;
  return typeof cause === 'string' ? cause : inspect(cause, { depth: 8, maxStringLength: 20_000 });
}

/** What a file wrote on standard error, the last of it: all that there is of one that died. */
class Said {
  #texts = new Map();

  add({ file, message }) {
    this.#texts.set(file, ((this.#texts.get(file) ?? '') + message).slice(-8000));
  }

  /** A file as a whole is a test whose name ends like its path. */
  of({ name, file, nesting }) {
    const text =
      nesting === 0 && file?.endsWith(name.replace(/^\.?\//, '')) ? this.#texts.get(file) : undefined;
    return text === undefined ? '' : `\nIt wrote on standard error:\n${text.trimEnd()}`;
  }
}

function outcomeOf({ type, data }, within, said) {
  const { error, type: kind = 'test' } = data.details ?? {};
  return {
    outcome: type === 'test:pass' ? 'pass' : 'fail',
    name: data.name,
    within,
    file: data.file,
    kind,
    skip: data.skip,
    todo: data.todo,
    failure: error?.failureType,
    error: error === undefined ? undefined : textOf(error) + said.of(data),
  };
}

// biome-ignore lint/style/noDefaultExport: node:test wants it so.
export default async function* report(source) {
  /** The names of the test that goes on, and of those that it is in. */
  const names = [];
  const said = new Said();
  for await (const event of source) {
    const { type, data } = event;
    if (type === 'test:start') names.splice(data.nesting, Infinity, data.name);
    else if (type === 'test:stderr') said.add(data);
    else if (type === 'test:pass' || type === 'test:fail') {
      yield `${mark}${JSON.stringify(outcomeOf(event, names.slice(0, data.nesting), said))}\n`;
    }
  }
  for (const name of readdirSync(folder)) {
    yield `${mark}{"outcome":"file",${readFileSync(join(folder, name), 'utf8').slice(1)}\n`;
  }
  rmSync(folder, { recursive: true });
  yield `${mark}{"outcome":"end"}\n`;
}
