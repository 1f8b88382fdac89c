// Tests of every kind and end, for test/vm/guest-tests.test.ts; not a test file of its own, since some of these fail.

import assert from 'node:assert/strict';
import { release } from 'node:os';
import { describe, it, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';

describe('a suite', () => {
  it('passes', () => {});
  it('has tests in it', async (t) => {
    await t.test('deeper', async (deeper) => {
      await deeper.test('deepest', () => {});
      deeper.diagnostic('a remark');
    });
  });
  it('is skipped', { skip: 'for a reason' }, () => {});
  it('is skipped without a reason', { skip: true }, () => {});
  it('skips itself', (t) => t.skip('at last'));
  it('is still to do', { todo: 'some day' }, () => assert.fail('not yet'));
});

test('takes a while', () => delay(300));

test('fails', () => {
  assert.deepEqual(new Map([['a', 1]]), new Map([['a', 2]]));
});

test('throws what is no error', () => {
  throw { reason: 'none' };
});

test('has tests in it that fail', async (t) => {
  await t.test('fails in it', () => {
    throw new RangeError('out of range', { cause: new Error('the cause') });
  });
});

describe('suites side by side', { concurrency: true }, () => {
  for (const name of ['one', 'two']) {
    describe(name, { concurrency: true }, () => {
      it('waits', () => delay(100));
      it(`is in ${name}`, async (t) => {
        await delay(name === 'one' ? 50 : 10);
        await t.test(`deeper in ${name}`, () => delay(20));
      });
    });
  }
});

test('runs on a kernel', (t) => {
  t.diagnostic(`release ${release()}`);
  t.diagnostic(`gc is ${typeof globalThis.gc}`);
  console.log('on standard output');
  console.error('on standard error');
});
