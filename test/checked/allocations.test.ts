// In each script of test/inject, each of the addon's calls is made while the kernel fails in its allocations, one after the
// other until it makes no more: on a kernel that can be told to (CONFIG_FAULT_INJECTION).

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { allowAllocationsToFail, noFailingAllocations } from '../inject/fail-nth.js';
import type { Verdict } from '../inject/judge.js';
import { Performers } from '../inject/performers.js';
import { allocations } from '../inject/plan.js';
import { scripts } from '../inject/scripts.js';
import { none, tryScript } from '../inject/try-script.js';
import { kernelTest } from '../support/kernel-test.js';

const performers = new Performers(allocations);
const sums = none();

test('these tests run', () => assert.equal(noFailingAllocations, false));

before(() => allowAllocationsToFail());
after(() => performers.end());

for (const script of Object.keys(scripts)) {
  kernelTest(`${script}: any allocation in the kernel may fail`, async () => {
    const { wrongs, counts } = await tryScript(script, performers, allocations);
    for (const verdict of Object.keys(counts) as Verdict[]) sums[verdict] += counts[verdict];
    assert.deepEqual(wrongs, []);
  });
}

test('allocations have failed, and calls with them', (t) => {
  t.diagnostic(JSON.stringify(sums));
  assert.ok(sums.errno > 100, JSON.stringify(sums));
});
