import assert from 'node:assert/strict';
import { hasKernel, kernelTest } from '../../support/kernel-test.js';
import type { MappingLimitReport } from '../../support/programs/mapping-limit.js';
import { runProgram } from '../../support/programs.js';

if (hasKernel) {
  const notRoot = process.getuid?.() !== 0 && 'only root can lower vm.max_map_count';
  const env = { ...process.env, NODE_OPTIONS: '--expose-gc' };
  const { near, at, past } = notRoot
    ? (undefined as never)
    : runProgram<MappingLimitReport>('mapping-limit', { env });

  kernelTest(
    'map() refuses near the limit on mappings, with what to do',
    () => {
      const { code, syscall, hint } = near.refusal ?? {};
      assert.deepEqual([code, syscall], ['ENOMEM', 'mmap']);
      assert.match(hint ?? '', /of at most 2000 \(vm\.max_map_count\).*sysctl vm\.max_map_count=4000/);
    },
    notRoot,
  );

  kernelTest(
    'a part of the limit is left to Node.js itself',
    () => {
      assert.ok(near.left >= 200 && near.left < 400, `${near.left} of 2000 are left`);
      assert.ok(near.count > 1000, `refused after ${near.count}`);
      assert.equal(near.memory, 64);
    },
    notRoot,
  );

  for (const call of ['read', 'cpuAccessSync'] as const) {
    kernelTest(
      `${call}() refuses in the same way when it would have to map`,
      () => {
        assert.equal(near.others[call]?.code, 'ENOMEM');
        assert.match(near.others[call]?.hint ?? '', /vm\.max_map_count/);
      },
      notRoot,
    );
  }

  kernelTest(
    'map() works again when mappings have gone',
    () => {
      assert.equal(near.again, undefined, near.again?.message);
    },
    notRoot,
  );

  kernelTest(
    'unmap() and close() let go of the memory when there are more mappings than the limit allows',
    () => {
      assert.deepEqual(at, { errors: [null, null, null], bytes: [0, 0, 0], left: 0 });
    },
    notRoot,
  );

  for (const call of ['unmap', 'close', 'release'] as const) {
    kernelTest(
      `${call}() throws ENOMEM when the kernel cannot let go of the memory`,
      () => {
        assert.equal(past.refused[call]?.code, 'ENOMEM');
        assert.match(past.refused[call]?.hint ?? '', /vm\.max_map_count/);
      },
      notRoot,
    );
  }

  kernelTest(
    'what was refused has changed nothing, and closed says so',
    () => {
      assert.deepEqual(past.then, { closed: [false, false, false], first: 7, bytes: 7 });
    },
    notRoot,
  );

  kernelTest(
    'what was refused works later',
    () => {
      assert.deepEqual(past.unmapped, [0, 7, true, false]);
      assert.deepEqual([past.closed, past.left], [[true, true], 0]);
    },
    notRoot,
  );
}
