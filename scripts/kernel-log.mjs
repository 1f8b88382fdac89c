// The log of a guest's kernel as npm test judges it: it fails for what the runner takes for a fault of the kernel's (`splats`), and for
// what scripts/in-guest.sh has found afterwards, whatever the tests say.

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { Writable } from 'node:stream';

/** That a test file begins (test/support/end-of-file.ts). */
const testFile = /\bdmabuf: test file (\S+)/;
/** What scripts/in-guest.sh writes. */
const found = /\bdmabuf: fault: (.*)/;
const judged = 'dmabuf: the kernel was looked at';
/** So much of the log shows what in-guest.sh has found: kmemleak has a stack there. */
const shownLines = 45;

/**
 * The faults in a log, with the test file that ran: what the runner has found in it, and what came after the tests. With neither,
 * that it has to have been looked for.
 */
export function faultsIn(log, splats) {
  const lines = log.split('\n');
  const faults = splats.map(({ title, text }) => {
    const file = lastFileIn(lines.slice(0, lines.indexOf(text.split('\n', 1)[0]) + 1));
    return { what: title, file, text };
  });
  for (const [at, line] of lines.entries()) {
    const what = found.exec(line)?.[1];
    // A taint only repeats that there was a report.
    if (what === undefined || (splats.length > 0 && !what.startsWith('unreferenced'))) continue;
    faults.push({ what, file: undefined, text: lines.slice(at, at + shownLines).join('\n') });
  }
  if (!log.includes(judged))
    faults.push({ what: 'nobody has looked at it when the tests were over', file: undefined, text: '' });
  return faults;
}

function lastFileIn(lines) {
  const line = lines.findLast((one) => testFile.test(one));
  return line && testFile.exec(line)[1];
}

/** Takes a kernel's log. */
export class KernelLog extends Writable {
  #text = '';

  _write(chunk, _encoding, done) {
    this.#text += chunk.toString('latin1');
    done();
  }

  faults(splats) {
    return faultsIn(this.#text, splats);
  }

  /** The test file that ran last, if one has begun. */
  get lastFile() {
    return lastFileIn(this.#text.split('\n'));
  }

  /** Keeps it for people. */
  keep(path) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, this.#text);
  }
}
