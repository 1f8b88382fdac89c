import assert from 'node:assert/strict';
import { fstatSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { DmaBuf } from 'dmabuf';
import { readFdInfo } from 'dmabuf/inspect';
import { leavesNothing, notOpen } from '../support/descriptors.js';
import { throwsCode } from '../support/expect.js';
import { openStrangers, type Strangers } from '../support/strangers.js';

const kinds = [
  'a regular file',
  'a directory',
  'a pipe',
  'a character device',
  'a file of procfs',
  'a file in shared memory',
  'a path',
  'a socket',
  'an eventfd',
  'an epoll instance',
];

describe('descriptors that are no dma-bufs', () => {
  let strangers: Strangers;
  before(async () => {
    strangers = await openStrangers();
  });
  after(() => strangers.close());

  for (const kind of kinds) {
    const fdOf = (): number => {
      const fd = strangers.fds.get(kind);
      assert.ok(fd !== undefined, 'this process has none');
      return fd;
    };

    test(`isDmaBuf is false for ${kind}`, () => {
      assert.equal(
        leavesNothing(() => DmaBuf.isDmaBuf(fdOf())),
        false,
      );
    });

    test(`import refuses ${kind}`, () => {
      leavesNothing(() => throwsCode(() => DmaBuf.import(fdOf()), 'ERR_DMABUF_NOT_DMABUF'));
    });

    test(`adopt refuses ${kind} and leaves it open`, () => {
      leavesNothing(() => throwsCode(() => DmaBuf.adopt(fdOf()), 'ERR_DMABUF_NOT_DMABUF'));
      assert.ok(fstatSync(fdOf()));
    });

    test(`readFdInfo finds no dma-buf in ${kind}`, () => {
      assert.equal(
        leavesNothing(() => readFdInfo('self', fdOf())),
        undefined,
      );
    });
  }
});

describe('a number that is no open descriptor', () => {
  for (const [name, call] of [
    ['isDmaBuf', DmaBuf.isDmaBuf],
    ['import', DmaBuf.import],
    ['adopt', DmaBuf.adopt],
  ] as const) {
    test(`${name} says EBADF`, () => {
      const error = leavesNothing(() => throwsCode(() => call(notOpen), 'EBADF'));
      assert.deepEqual([error.errno, error.syscall], [-9, 'statx']);
    });
  }

  test('readFdInfo says ENOENT, with the path', () => {
    const error = leavesNothing(() => throwsCode(() => readFdInfo('self', notOpen), 'ENOENT'));
    assert.equal(error.path, `/proc/self/fdinfo/${notOpen}`);
  });

  test('readFdInfo of a process that does not exist says ENOENT', () => {
    const error = throwsCode(() => readFdInfo(2 ** 31 - 1, 0), 'ENOENT');
    assert.match(error.message, /No such process/);
  });
});
