import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createMemfd, DmaBufChannel, DmaBufPool } from 'dmabuf';
import { throwsCode, unsound } from '../support/expect.js';

const pool = (options: unknown): DmaBufPool => new DmaBufPool(4096, unsound(options));

describe('an option that does not exist', () => {
  for (const [misspelt, meant] of [
    ['acces', 'access'],
    ['Access', 'access'],
    ['idleTimout', 'idleTimeout'],
    ['maximum', 'max'],
    ['unckecked', 'unchecked'],
    ['form', 'from'],
  ] as const) {
    test(`is told the nearest that does: '${misspelt}', '${meant}'`, () => {
      const { message } = throwsCode(() => pool({ [misspelt]: 1 }), 'ERR_INVALID_ARG_VALUE');
      assert.match(message, new RegExp(`'${misspelt}'.* Did you mean '${meant}'`));
    });
  }

  for (const other of ['size', 'timeout', 'pool', 'x'.repeat(100)]) {
    test(`is told none that is another word: '${other.slice(0, 10)}'`, () => {
      const { message } = throwsCode(() => pool({ [other]: 1 }), 'ERR_INVALID_ARG_VALUE');
      assert.doesNotMatch(message, /Did you mean/);
    });
  }

  test('is told all that there are', () => {
    const { message } = throwsCode(
      () => createMemfd(4096, unsound({ nonsense: 1 })),
      'ERR_INVALID_ARG_VALUE',
    );
    assert.match(message, /: name, hugePageSize$/);
  });

  test('is refused with a name of any length, quickly and in few words', () => {
    const { message } = throwsCode(() => pool({ ['x'.repeat(1 << 20)]: 1 }), 'ERR_INVALID_ARG_VALUE');
    assert.ok(message.length < 300);
  });

  test('is let through where its value is undefined, like any other', () => {
    pool({ nonsense: undefined }).close();
  });

  test('is let through where every object of the program has it', () => {
    Object.defineProperty(Object.prototype, 'everywhere', { value: 1, enumerable: true, configurable: true });
    try {
      pool({ max: 1 }).close();
    } finally {
      Reflect.deleteProperty(Object.prototype, 'everywhere');
    }
  });

  test('of another call is refused too', () => {
    throwsCode(() => DmaBufChannel.pair(unsound({ timeout: 1 })), 'ERR_INVALID_ARG_VALUE');
  });
});

test('options may be inherited', () => {
  using made = pool(Object.create({ max: 3 }));
  assert.equal(made.max, 3);
});

test('min above max is refused with what max is', () => {
  const { message } = throwsCode(() => pool({ min: 3, max: 2 }), 'ERR_OUT_OF_RANGE');
  assert.equal(message, 'The min must be at most 2, which is max. Received 3');
});

describe('a pool that clears its buffers', () => {
  for (const access of ['read', 'write'] as const) {
    test(`is refused with access '${access}', which does not allow it`, () => {
      throwsCode(() => pool({ zero: true, access }), 'ERR_INVALID_ARG_VALUE');
    });
  }

  test("takes access 'read-write'", () => {
    pool({ zero: true, access: 'read-write' }).close();
  });
});
