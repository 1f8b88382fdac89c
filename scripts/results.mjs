// What became of the tests in all runs of npm test.

import { PassThrough } from 'node:stream';
import { mark } from './reporter.mjs';

/** A test file as it was planned, of wherever the package lies. */
const pathOf = (file) => file.slice(file.lastIndexOf('dist/test/'));

export class Results {
  #summary = { tests: 0, suites: 0, pass: 0, fail: 0, cancelled: 0, skipped: 0, todo: 0 };
  /** What failed: where it ran, its file and name as far as there are such, and the whole error. */
  #failures = [];
  /** How long each file took in each run, in ms. */
  #durations = [];
  /** How many tests were skipped for each reason. */
  #skipped = new Map();

  /** Something failed that is no test. */
  fail(what, error = '') {
    this.#failures.push({ what, error });
  }

  /** Who reads the run's standard error; of these files. */
  listen(title, list) {
    return new Listener(this, title, list);
  }

  ended(file, ms, title) {
    this.#durations.push({ ms, file, title });
  }

  /** Counts one event of node:test. Whether it is a failure of its own. */
  count({ outcome, kind, skip, todo, failure }) {
    if (kind === 'suite') {
      this.#summary.suites++;
      // Where its tests failed, they say it; it has an error of its own when a hook fails.
      return outcome === 'fail' && failure !== 'subtestsFailed';
    }
    this.#summary.tests++;
    if (skip !== undefined && skip !== false) {
      this.#summary.skipped++;
      const reason = typeof skip === 'string' && skip !== '' ? skip : 'no reason given';
      this.#skipped.set(reason, (this.#skipped.get(reason) ?? 0) + 1);
    } else if (todo !== undefined && todo !== false) this.#summary.todo++;
    else if (failure === 'cancelledByParent') this.#summary.cancelled++;
    else this.#summary[outcome]++;
    return outcome === 'fail' && !todo;
  }

  get totals() {
    return { ...this.#summary, reasons: Object.fromEntries(this.#skipped) };
  }

  /** Prints the totals, then all that failed. Whether nothing did. */
  print(say) {
    say('the files that took longest');
    for (const { ms, file, title } of this.#durations.toSorted((a, b) => b.ms - a.ms).slice(0, 10)) {
      console.log(`${(ms / 1000).toFixed(1).padStart(7)} s  ${file}, ${title}`);
    }
    if (this.#skipped.size > 0) say('skipped');
    for (const [reason, count] of this.#skipped) console.log(`${String(count).padStart(7)}  ${reason}`);
    say('all runs together');
    for (const [name, count] of Object.entries(this.#summary)) console.log(`ℹ ${name} ${count}`);
    if (this.#summary.tests === 0 && this.#failures.length === 0) this.fail('no test matched');
    if (this.#failures.length === 0) return true;
    // At the very end, where a log that has lost its beginning still has them.
    say('failed tests');
    for (const { what, error } of this.#failures) {
      console.log(`✖ ${what}${error === '' ? '' : `\n${error.replace(/^(?=.)/gm, '    ')}`}\n`);
    }
    return false;
  }
}

/** Counts what the reporter tells (scripts/reporter.mjs), and passes on what else comes on standard error. */
class Listener {
  #results;
  #title;
  #missing;
  #rest = '';
  #hasEnded = false;
  /** By test: the files that made it with a function of test/support, since node:test names that one's file. */
  #makers = new Map();
  #broken = [];
  stream = new PassThrough();

  constructor(results, title, list) {
    this.#results = results;
    this.#title = title;
    this.#missing = new Set(list);
    this.stream.setEncoding('utf8').on('data', (text) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop();
      for (const line of lines) this.#read(line);
    });
  }

  #read(line) {
    const start = line.indexOf(mark);
    if (start !== 0) process.stderr.write(`${start < 0 ? line : line.slice(0, start)}\n`);
    if (start < 0) return;
    const event = JSON.parse(line.slice(start + mark.length));
    if (event.outcome === 'end') this.#hasEnded = true;
    else if (event.outcome === 'file') this.#end(pathOf(event.file), event);
    else if (this.#results.count(event)) this.#broken.push(event);
  }

  #end(file, { ms, left, made }) {
    this.#missing.delete(file);
    this.#results.ended(file, ms, this.#title);
    for (const name of made) this.#makers.set(name, [...(this.#makers.get(name) ?? []), file]);
    if (left.length > 0) this.#fail(`${file} left behind`, left.join('\n'));
  }

  #fail(what, error) {
    this.#results.fail(`${this.#title}: ${what}`, error);
  }

  /** The run is over: whether all that was planned has come. */
  finish() {
    if (this.#rest !== '') this.#read(this.#rest);
    for (const { file = '', within, name, error } of this.#broken)
      this.#fail(this.#nameOf(file, within, name), error);
    if (!this.#hasEnded) this.#fail('the run was cut off');
    for (const file of this.#missing) this.#fail(`${file} did not come to its end`);
  }

  #nameOf(file, within, name) {
    // A file as a whole is a test where it fails.
    if (name.endsWith('.test.js')) return pathOf(name);
    const names = [...within, name];
    const files = file.endsWith('.test.js') ? [pathOf(file)] : (this.#makers.get(names[0]) ?? [pathOf(file)]);
    return `${files.join(' or ')}: ${names.join(' > ')}`;
  }
}
