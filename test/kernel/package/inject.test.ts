// The reduced form of npm run inject: in each script, each of the addon's system calls fails once with each of its errnos.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { declaredFunctions } from '../../inject/declared.js';
import { Performers } from '../../inject/performers.js';
import { reduced } from '../../inject/plan.js';
import { scripts } from '../../inject/scripts.js';
import { tryScript } from '../../inject/try-script.js';
import { noFences } from '../../support/fences.js';
import { kernelTest } from '../../support/kernel-test.js';
import { noIterator } from '../../support/script-tests.js';

const performers = new Performers(reduced);
after(() => performers.end());

kernelTest(
  'every public function is called while system calls fail',
  async () => {
    assert.ok(declaredFunctions().length > 100, 'the declarations are not read right');
    const reply = await performers.perform({});
    assert.deepEqual(reply, { missing: [] });
    // It has replaced the package's methods by others that count.
    performers.end();
  },
  noIterator,
);

for (const script of Object.keys(scripts)) {
  kernelTest(
    `${script}: any call of the addon may fail`,
    async () => {
      const { wrongs } = await tryScript(script, performers, reduced);
      assert.deepEqual(wrongs, []);
    },
    noFences,
  );
}
