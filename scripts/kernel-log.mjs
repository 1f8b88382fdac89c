// What a guest's kernel says on its console while tests run, and whether it has found a fault of its own: npm test reads the
// log of each guest, and fails for such a line whatever the tests say.

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { Writable } from 'node:stream';

/** Has the kernel print its warnings too: with `quiet`, which the runner says, WARNING: lines are in its own log only. */
export const logArguments = ['loglevel=5'];

/**
 * How the kernel begins to tell of a fault. Not "Call Trace:": it also prints one when memory is used up, which tests bring
 * about.
 */
const beginnings = [
  /\bBUG: /, // also of KASAN and KFENCE, of locks that are taken while atomic, of bad pages
  /\bBUG \S+ \(.*\): /, // slab_debug: what it has found in a cache
  /\bkernel BUG at /,
  /\bWARNING: /, // WARN(), and lockdep: possible recursive locking, circular dependency, suspicious RCU usage
  /-\[ cut here \]-/,
  /\bUBSAN: /,
  /\bDMA-API: .*(error|leak)/,
  /\b(list_add|list_del) corruption/,
  /\bOops: /,
  /\bgeneral protection fault/,
  /\bKernel panic - not syncing/,
  /\bINFO: (possible|trying to register non-static key|lockdep is turned off|task .* blocked for more than)/,
  /\brcu: INFO: |INFO: rcu\w* .*stall/,
  /\bunreferenced object 0x/, // kmemleak
];

/** So much of what follows belongs to it. */
const shownLines = 45;
/** What comes within so many lines is told of together: a WARNING: has a line before it, and a KASAN report several. */
const near = 8;

/** What scripts/in-guest.sh writes into the log. */
const started = 'dmabuf: the command starts';
const ended = 'dmabuf: the command has ended';
/** That a test file begins (test/support/end-of-file.ts). */
const testFile = /\bdmabuf: test file (\S+)/;

/**
 * Bits of /proc/sys/kernel/tainted that the kernel sets when it has found a fault. Not 14, a soft lockup, which has a line of
 * its own in the log: sw_sync sets it for each fence, since a program that never signals one can have the kernel wait.
 */
const taints = { 5: 'a bad page', 7: 'an oops', 9: 'a warning' };

/** The faults in the text of a console: the first line of each, the test file that ran, and what the kernel said. */
export function faultsIn(text) {
  const lines = lastBoot(text).split('\n');
  const faults = [];
  let file;
  let last = -near;
  for (const [at, line] of lines.entries()) {
    file = testFile.exec(line)?.[1] ?? file;
    if (!beginnings.some((beginning) => beginning.test(line))) continue;
    if (at - last >= near) {
      const what = line.replace(/^\[[^\]]*\]\s*/, '').replace(/^-+\[ cut here \]-+$/, 'a warning');
      faults.push({ what, file, text: lines.slice(at, at + shownLines).join('\n') });
    }
    last = at;
  }
  return [...faults, ...(faults.length === 0 ? lastWords(lines) : [])];
}

/** Of an emulated kernel that has crashed while booting, as QEMU lets it once in a while, and was booted again: the rest. */
function lastBoot(text) {
  const whole = text.replaceAll('\r', '');
  const panic = whole.lastIndexOf('end Kernel panic', Math.max(0, whole.indexOf(started)));
  return panic < 0 ? whole : whole.slice(whole.indexOf('\n', panic) + 1);
}

/** What the kernel says of itself at the end, where no line has told of a fault. */
function lastWords(lines) {
  // The runner tells of a guest that has not come that far.
  if (!lines.some((line) => line.includes(started))) return [];
  const end = lines.findLastIndex((line) => line.includes(ended));
  if (end < 0) return [{ what: "the log is not whole: it lacks the command's end", text: '' }];
  const [, tainted] = /tainted (\d+)/.exec(lines[end]) ?? [];
  const found = Object.entries(taints).filter(([bit]) => (BigInt(tainted ?? 0) >> BigInt(bit)) & 1n);
  const faults = found.map(([, why]) => ({ what: `the kernel is tainted by ${why}`, text: lines[end] }));
  if (/debug_locks: *0/.test(lines[end]))
    faults.push({ what: 'lockdep has turned itself off', text: lines[end] });
  return faults;
}

/** Takes a guest's console. */
export class KernelLog extends Writable {
  #text = '';

  _write(chunk, _encoding, done) {
    this.#text += chunk.toString('latin1');
    done();
  }

  get faults() {
    return faultsIn(this.#text);
  }

  /** Keeps it for people. */
  keep(path) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, this.#text.replaceAll('\r', ''));
  }
}
