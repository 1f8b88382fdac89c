// Every stage that a process can be at when it ends, and every way to end: each pair is a test. A process starts
// slowly, so that stages share one where nothing is lost by it; with DMABUF_TEST_STAGES=apart each pair has its own.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { until } from '../support/event-loop.js';
import { noHeap } from '../support/needs.js';
import { kernelCount, noKernelList, untilGone } from '../support/observe.js';
import { assertEnded, type Ending, type Outcome, type RunOptions, runChild, testTogether } from './run.js';
import type { Stage, StageReport } from './stage.js';
import { possibleStages, stages, together } from './stages.js';
import { scenarios } from './stages.scenarios.js';

/** A network namespace of its own: a stage changes a setting of it. */
const namespace = spawnSync('unshare', ['--net', 'true']).status === 0 ? ['unshare', '--net'] : [];

/** A way to end. */
interface Column {
  title: string;
  /** What stages.child.ts is told. */
  argument: string;
  ending: Ending;
  options?: RunOptions<StageReport>;
  /** The stages that one process is at. */
  sharing: (stage: Stage) => string[];
  check?: (stage: Stage, report: StageReport) => void;
}

/** Sends the signal as soon as the process is at all its stages. */
function killWith(signal: NodeJS.Signals): Column {
  return {
    title: signal,
    argument: 'a signal',
    ending: { signal },
    options: {
      onReport: ({ name }, child) => {
        if (name === 'ready') child.kill(signal);
      },
    },
    // Node no longer does anything, and the kernel does everything.
    sharing: () => possibleStages(),
  };
}

const columns: readonly Column[] = [
  {
    title: 'the script ends by itself, not before all that is pending is over',
    argument: 'by itself',
    ending: {},
    // A pending operation must keep the process alive by itself.
    sharing: (stage) => (stage.group === 'idle' ? together(stage) : [stage.name]),
  },
  { title: 'process.exit(7)', argument: 'process.exit()', ending: { code: 7 }, sharing: together },
  {
    title: 'an exception that nobody catches',
    argument: 'an exception',
    ending: { code: 1, stderr: /Error: as expected\n/ },
    sharing: together,
  },
  killWith('SIGKILL'),
  killWith('SIGTERM'),
  {
    title: 'no descriptor is left (ulimit -n): the call fails, the process goes on and ends by itself',
    argument: 'no descriptors',
    ending: {},
    options: { through: ['sh', '-ec', 'ulimit -n 256; exec "$@"', 'sh'] },
    sharing: () => possibleStages(), // one after the other
    check: ({ withoutDescriptors = 'done' }, { outcome }) => assert.equal(outcome, withoutDescriptors),
  },
];

/** Asserts that a process which was at a stage left nothing in the kernel. */
async function assertGone({ inodes, size }: StageReport): Promise<void> {
  if (noKernelList !== false) return;
  await untilGone(inodes);
  if (size !== undefined) await until(() => kernelCount(size) === 0, 'what was being allocated is freed');
}

for (const { title, argument, ending, options, sharing, check } of columns) {
  describe(title, { skip: noHeap, concurrency: 2 }, () => {
    const runs = new Map<string, Promise<Outcome<StageReport>>>();
    const through = [...namespace, ...(options?.through ?? [])];
    for (const stage of stages) {
      test(`while ${stage.name}`, { skip: stage.skip ?? false }, async () => {
        const names = sharing(stage);
        const run =
          runs.get(names.join()) ?? runChild('stages.child', [argument, ...names], { ...options, through });
        runs.set(names.join(), run);
        const outcome = await run;
        assertEnded(outcome, ending);
        const report = outcome.reports.find(({ name }) => name === stage.name);
        assert.ok(report, 'did not get there');
        check?.(stage, report);
        await assertGone(report);
      });
    }
  });
}

testTogether('the worker is terminated', new URL('./stages.scenarios.js', import.meta.url), scenarios, {
  through: namespace,
});
