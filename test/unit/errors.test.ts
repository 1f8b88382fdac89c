import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { inspect } from 'node:util';
import { DmaBufError, DmaHeap } from 'dmabuf';
import { readFdInfo } from 'dmabuf/inspect';
import { notOpen } from '../support/descriptors.js';
import { throwsCode } from '../support/expect.js';

describe('an error of the kernel', () => {
  const openFails = (): DmaBufError => throwsCode(() => DmaHeap.open('/no/such/heap'), 'ENOENT');

  test('is an Error and a DmaBufError', () => {
    const error = openFails();
    assert.ok(error instanceof Error && error instanceof DmaBufError);
  });

  test('is named after its class', () => {
    assert.equal(openFails().name, 'DmaBufError');
  });

  test("has the errno's name, the negative errno, the call and the path", () => {
    const { code, errno, syscall, path } = openFails();
    assert.deepEqual(
      { code, errno, syscall, path },
      { code: 'ENOENT', errno: -2, syscall: 'open', path: '/no/such/heap' },
    );
  });

  test("reads CODE: what failed, call 'path'", () => {
    const error = throwsCode(() => readFdInfo('self', notOpen), 'ENOENT');
    assert.match(
      error.message,
      new RegExp(`^ENOENT: no such file or directory, open '/proc/self/fdinfo/${notOpen}'`),
    );
  });

  test('says what to do', () => {
    const error = throwsCode(() => DmaHeap.open('/dev/null'), 'ENOTTY');
    assert.match(error.message, /heaps are the devices under \/dev\/dma_heap/);
  });

  test('has what to do as its hint, which ends the message', () => {
    const { hint, message } = throwsCode(() => DmaHeap.open('/dev/null'), 'ENOTTY');
    const device = '/dev/null is the device null (1:3), not a dma-buf heap';
    assert.equal(hint, `${device}; heaps are the devices under /dev/dma_heap.`);
    assert.equal(message, `ENOTTY: inappropriate ioctl for device, open '/dev/null'. ${hint}`);
  });

  test('does not list details that are missing', () => {
    const error = openFails();
    assert.equal('attempts' in error, false);
  });

  test('shows code, errno, syscall and path when it is logged', () => {
    const text = inspect(openFails());
    for (const part of ["code: 'ENOENT'", 'errno: -2', "syscall: 'open'", "path: '/no/such/heap'"]) {
      assert.ok(text.includes(part), `${part} is not in ${text}`);
    }
  });

  test('has the caller in its stack', () => {
    function callerOfOpen(): DmaBufError {
      return openFails();
    }
    assert.match(callerOfOpen().stack ?? '', /callerOfOpen/);
  });
});

describe('DmaBufError', () => {
  test('can be made by a user, for tests of their own', () => {
    const cause = new Error('why');
    const error = new DmaBufError('EINVAL: invalid argument, ioctl', { code: 'EINVAL', errno: -22, cause });
    assert.deepEqual(
      [error.message, error.code, error.errno, error.cause],
      ['EINVAL: invalid argument, ioctl', 'EINVAL', -22, cause],
    );
  });

  for (const hint of ['Try again', 'Try again.']) {
    test(`ends its message with the hint '${hint}', as a sentence`, () => {
      const error = new DmaBufError('EINVAL: invalid argument, ioctl', { code: 'EINVAL', hint });
      assert.deepEqual(
        [error.hint, error.message],
        ['Try again.', 'EINVAL: invalid argument, ioctl. Try again.'],
      );
    });
  }

  test('takes its hint sentence by sentence', () => {
    const error = new DmaBufError('EINVAL: invalid argument', {
      code: 'EINVAL',
      hint: ['Wait', 'Try again.'],
    });
    assert.deepEqual(
      [error.hint, error.message],
      ['Wait. Try again.', 'EINVAL: invalid argument. Wait. Try again.'],
    );
  });

  test('has no hint where none was given', () => {
    assert.equal('hint' in new DmaBufError('EINVAL: invalid argument', { code: 'EINVAL' }), false);
  });
});
