import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { kernelTest } from '../../support/kernel-test.js';
import { limitUdmabuf } from '../../support/memfds.js';
import type { MemoryReport, Outcome } from '../../support/programs/takes-memory.js';
import { runProgramAfter } from '../../support/programs.js';

// The guard in control groups: each test runs a program of its own in a group of its own, which alone would be killed.

const MiB = 1 << 20;

/** Where the hierarchy of version 2 is, if its groups can be given limits on memory. */
function hierarchy(): string | undefined {
  const mount = /^\S+ (\S+) cgroup2 /m.exec(readFileSync('/proc/mounts', 'utf8'))?.[1];
  if (mount === undefined || process.getuid?.() !== 0) return undefined;
  try {
    writeFileSync(`${mount}/cgroup.subtree_control`, '+memory');
    return mount;
  } catch {
    return undefined;
  }
}

const groups = hierarchy();
const unless = groups === undefined && 'needs root and control groups of version 2 that limit memory';

/** Runs a task of `takes-memory` in a group below another; the limits are of the files of `outer` and `inner`. */
function runIn(
  limits: { outer?: Record<string, string>; inner?: Record<string, string> },
  task: string,
  more = '',
): MemoryReport {
  const outer = `${groups}/dmabuf-test-${process.pid}`;
  const inner = `${outer}/inner`;
  mkdirSync(outer);
  try {
    writeFileSync(`${outer}/cgroup.subtree_control`, '+memory');
    mkdirSync(inner);
    for (const [folder, values] of [
      [outer, limits.outer],
      [inner, limits.inner],
    ] as const) {
      for (const [file, value] of Object.entries(values ?? {})) writeFileSync(`${folder}/${file}`, value);
    }
    const shell = `echo $$ > ${inner}/cgroup.procs; export DMABUF_TEST_TASK=${task} ${more}`;
    using _size = limitUdmabuf(2000);
    return runProgramAfter<MemoryReport>(shell, 'takes-memory');
  } finally {
    for (const folder of [inner, outer]) {
      try {
        rmdirSync(folder);
      } catch {
        // Not made, or the program that is in it has not ended.
      }
    }
  }
}

function assertGuarded(outcome: Outcome | undefined, counter: RegExp): void {
  assert.equal(outcome?.error?.code, 'ERR_DMABUF_MEMORY_GUARD', JSON.stringify(outcome));
  assert.match(outcome.error.message, counter);
}

const guardTest = (name: string, body: () => void): void => kernelTest(name, body, unless);

guardTest("more than a control group's memory.max is refused, with both figures and the counter", () => {
  const { outcomes } = runIn({ inner: { 'memory.max': '200M' } }, 'large');
  for (const outcome of outcomes.slice(0, 2)) {
    assertGuarded(outcome, /memory\.max of 209715200 bytes in .*dmabuf-test-\d+\/inner/);
    const [, asked, available] =
      /: (\d+) bytes were requested and (\d+) are/.exec(outcome.error?.message ?? '') ?? [];
    assert.equal(Number(asked), 400 * MiB);
    assert.ok(Number(available) > 64 * MiB && Number(available) < 200 * MiB, available);
    assert.match(outcome.error?.hint ?? '', /unchecked: true/);
  }
});

guardTest('the next source is tried, whose memory the group does not count', () => {
  // Older kernels do not have the parameter: they never count heaps' memory.
  const parameter = '/sys/module/dma_heap/parameters/mem_accounting';
  const isCounted = existsSync(parameter) && readFileSync(parameter, 'utf8')[0] === 'Y';
  const [, , outcome] = runIn({ inner: { 'memory.max': '200M' } }, 'large').outcomes;
  if (isCounted) assertGuarded(outcome, /memory\.max/);
  else assert.deepEqual([outcome?.source, outcome?.attempts], ['system', ['ERR_DMABUF_MEMORY_GUARD']]);
});

guardTest('the limit of an ancestor counts', () => {
  const { outcomes } = runIn({ outer: { 'memory.max': '200M' } }, 'large');
  assertGuarded(outcomes[0], /memory\.max of 209715200 bytes in .*dmabuf-test-\d+\)/);
});

guardTest('a namespace of control groups hides no limit of an ancestor whose folder can be seen', () => {
  const limits = { outer: { 'memory.max': '200M' } };
  const { outcomes } = runIn(limits, 'large', '; set -- unshare --cgroup "$@"');
  assertGuarded(outcomes[0], /memory\.max of 209715200 bytes in .*dmabuf-test-\d+\)/);
});

guardTest('the smallest limit of all rules', () => {
  const limits = { outer: { 'memory.max': '200M' }, inner: { 'memory.max': '300M' } };
  assertGuarded(runIn(limits, 'large').outcomes[0], /memory\.max of 209715200 bytes in .*dmabuf-test-\d+\)/);
});

guardTest('memory.high counts, from which on the kernel slows a group down', () => {
  const { outcomes } = runIn({ inner: { 'memory.high': '200M' } }, 'large');
  assertGuarded(outcomes[0], /memory\.high of 209715200 bytes/);
});

guardTest('what a group has room for is served', () => {
  const { outcomes } = runIn({ inner: { 'memory.max': '200M' } }, 'small');
  assert.deepEqual(outcomes, [{ source: 'udmabuf', attempts: [] }]);
});

guardTest('many small requests end in a refusal, and nobody is killed', () => {
  const { outcomes } = runIn({ inner: { 'memory.max': '200M' } }, 'many');
  assertGuarded(outcomes[0], /memory\.max/);
});

guardTest('requests on their way count together', () => {
  const { outcomes } = runIn({ inner: { 'memory.max': '200M' } }, 'atOnce');
  assert.equal(outcomes[0]?.source, 'udmabuf');
  assertGuarded(outcomes[1], /minus 100663296 bytes of pending requests/);
});

for (const task of ['workers', 'workersSync']) {
  guardTest(`requests of two workers at the same moment count together (${task})`, () => {
    const { outcomes } = runIn({ inner: { 'memory.max': '200M' } }, task);
    assert.equal(outcomes.filter(({ source }) => source === 'udmabuf').length, 1, JSON.stringify(outcomes));
    assertGuarded(
      outcomes.find(({ source }) => source === undefined),
      /memory\.max/,
    );
  });
}

guardTest('a worker that ends in the middle of a request gives back what it has reserved', () => {
  const { outcomes } = runIn({ inner: { 'memory.max': '200M' } }, 'dyingWorker');
  assert.equal(outcomes[0]?.source, 'udmabuf', JSON.stringify(outcomes));
});

guardTest('what the kernel has served of a request on its way does not count twice', () => {
  const { outcomes } = runIn({ inner: { 'memory.max': '200M' } }, 'halfServed');
  assert.deepEqual(
    outcomes.map(({ source, error }) => source ?? error?.message),
    ['udmabuf', 'udmabuf'],
  );
});

guardTest('requests after each other do not', () => {
  const { outcomes } = runIn({ inner: { 'memory.max': '200M' } }, 'afterEachOther');
  assert.deepEqual(
    outcomes.map(({ source }) => source),
    ['udmabuf', 'udmabuf'],
  );
});

guardTest('pages of a memfd that are not there yet count when a buffer is made of them', () => {
  const { outcomes } = runIn({ inner: { 'memory.max': '200M' } }, 'memfd');
  assertGuarded(outcomes[0], /419430400 bytes were requested.*memory\.max/);
  assert.equal(outcomes[1]?.source, 'udmabuf');
});

guardTest('pages of a memfd that are there do not count twice', () => {
  const { outcomes } = runIn({ inner: { 'memory.max': '200M' } }, 'writtenMemfd');
  assert.equal(outcomes[0]?.source, 'udmabuf', JSON.stringify(outcomes));
});

guardTest("a group's page cache is no reason to refuse: the kernel drops it", () => {
  const { outcomes } = runIn({ inner: { 'memory.max': '200M' } }, 'cache', `DMABUF_TEST_CACHE=${120 * MiB}`);
  assert.equal(outcomes[0]?.source, 'udmabuf', JSON.stringify(outcomes));
});

guardTest('the examination says which limit rules', () => {
  const { findings = [] } = runIn({ inner: { 'memory.max': '200M' } }, 'doctor');
  const { status, text } = findings.find(({ subject }) => subject === 'memory of udmabuf') ?? {};
  assert.equal(status, 'ok');
  assert.match(text ?? '', /^\d+ MiB are available \(memory\.max of 209715200 bytes in .*inner\)$/);
});
