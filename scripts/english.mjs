// Words and phrases that a reader has to read twice, and what to write instead. `npm run check` refuses them in the documents, in
// the comments, messages and tests' names of all sources, and in the manual. Only phrases that are never right here are in the
// list, so that it has no exceptions.

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './setup.mjs';

/** A space in a phrase may be a line break, in a comment too. */
const phrases = [
  ['shall', 'must, will'],
  ['(?:mend|mends|mended|mending)', 'fix'],
  ['(?:whence|whereof|thereof|thence|hither|thither)', 'from which, of which, there'],
  ['any more(?=[.,;:)]| \\*/)', 'no longer'],
  ['whoever', 'every process that, code that, a user who'],
  ['for want of', 'because there is no, because … is used up'],
  ['(?:is|are|was|were) to be had', 'is available'],
  ['(?:has|have|had) not (?:a|an|the|any|got)', 'does not have, lacks'],
  ['(?:has|have|had) (?:it|them|none) not', 'does not have'],
].map(([source, instead]) => ({
  pattern: new RegExp(`\\b${source.replaceAll(' ', '\\s+(?:(?:\\*|//|#)\\s+)?')}(?!\\w)`, 'gi'),
  instead,
}));

/** Every phrase of a text that is refused, with its line and what to write instead. Blocks and spans of code are skipped. */
export function faultsIn(text) {
  const blank = (code) => code.replace(/[^\n]/g, '.');
  const prose = text.replace(/^ *```.*?^ *```$/gms, blank).replace(/`[^`\n]*`/g, blank);
  return phrases
    .flatMap(({ pattern, instead }) =>
      [...prose.matchAll(pattern)].map(({ 0: found, index }) => ({
        line: text.slice(0, index).split('\n').length,
        found: found.replace(/\s+(?:(?:\*|\/\/|#)\s+)?/g, ' '),
        instead,
      })),
    )
    .sort((a, b) => a.line - b.line);
}

const read = [
  'README.md',
  'CHANGELOG.md',
  'SECURITY.md',
  'CONTRIBUTING.md',
  'docs',
  'man',
  'examples',
  'lib',
  'native',
  'bench',
  'kernel-modules',
  'scripts',
  'test',
];

/** The phrases themselves are here. */
const exempt = ['scripts/english.mjs', 'test/unit/english.test.ts'];

const isProse = /\.(md|1|ts|mts|cts|mjs|js|cc|c|h|sh)$/;

function filesIn(path) {
  if (!statSync(join(root, path)).isDirectory()) return [path];
  // What is built there, or installed for an example, is not ours.
  return readdirSync(join(root, path))
    .filter((name) => name !== 'build' && name !== 'node_modules')
    .flatMap((name) => filesIn(join(path, name)));
}

/** The faults of every file that is checked, a line each. */
export function report() {
  return read
    .flatMap(filesIn)
    .filter((file) => isProse.test(file) && !exempt.includes(file))
    .flatMap((file) =>
      faultsIn(readFileSync(join(root, file), 'utf8')).map(
        ({ line, found, instead }) => `${file}:${line}: '${found}': write: ${instead}`,
      ),
    );
}
