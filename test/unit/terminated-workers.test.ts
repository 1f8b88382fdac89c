// Workers that are terminated while a call of theirs fails: an exception can no longer reach them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runProgram } from '../support/programs.js';

test('workers that are terminated while they ask for what is not there end nothing but themselves', () => {
  assert.ok(runProgram<number>('ends-workers') > 0);
});
