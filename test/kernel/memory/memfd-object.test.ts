import assert from 'node:assert/strict';
import { closeSync, fstatSync, openSync, readlinkSync, writeSync } from 'node:fs';
import { inspect } from 'node:util';
import { DmaBuf, Memfd, openHandles } from 'dmabuf';
import { closeOnExec, flagsOf } from '../../support/descriptors.js';
import { collectUntil } from '../../support/event-loop.js';
import { throwsCode, unsound } from '../../support/expect.js';
import { kernelTest } from '../../support/kernel-test.js';

const page = DmaBuf.pageSize;

kernelTest('a Memfd owns a sized memfd, close-on-exec and named', () => {
  using memfd = Memfd.create(3 * page, { name: 'frames' });
  assert.deepEqual([memfd.size, fstatSync(memfd.fd).size, memfd.closed], [3 * page, 3 * page, false]);
  assert.ok((flagsOf(memfd.fd) & closeOnExec) !== 0);
  assert.equal(readlinkSync(`/proc/self/fd/${memfd.fd}`), '/memfd:frames (deleted)');
});

kernelTest('a dma-buf is made of a Memfd, whole and in ranges, and shows what is written to it', () => {
  using memfd = Memfd.create(3 * page);
  using whole = DmaBuf.fromMemfd(memfd);
  using last = DmaBuf.fromMemfd(memfd, { offset: 2 * page, size: page });
  using other = Memfd.create(page);
  using both = DmaBuf.fromMemfd(memfd, [
    { offset: 0, size: page },
    { memfd: other, offset: 0, size: page },
  ]);
  writeSync(memfd.fd, 'last', 2 * page);
  writeSync(other.fd, 'other', 0);
  assert.deepEqual([whole.size, last.size, both.size], [3 * page, page, 2 * page]);
  assert.equal(whole.text({ position: 2 * page, length: 4 }), 'last');
  assert.equal(last.text({ length: 4 }), 'last');
  assert.equal(both.text({ position: page, length: 5 }), 'other');
});

kernelTest('a dma-buf keeps the pages of a Memfd that was closed', () => {
  const memfd = Memfd.create(page);
  writeSync(memfd.fd, 'kept', 0);
  using buffer = DmaBuf.fromMemfd(memfd);
  const { fd } = memfd;
  memfd.close();
  memfd.close();
  assert.deepEqual([memfd.fd, memfd.closed, memfd.size], [-1, true, page]);
  assert.throws(() => fstatSync(fd), { code: 'EBADF' });
  assert.equal(buffer.text({ length: 4 }), 'kept');
  throwsCode(() => DmaBuf.fromMemfd(memfd), 'ERR_DMABUF_CLOSED');
});

kernelTest('release() gives the descriptor away', () => {
  const memfd = Memfd.create(page);
  const fd = memfd.release();
  assert.ok(memfd.closed);
  DmaBuf.fromMemfd(fd).close();
  closeSync(fd);
});

kernelTest('an open Memfd is listed and shown', () => {
  using memfd = Memfd.create(page);
  assert.deepEqual(openHandles(), [{ type: 'Memfd', fd: memfd.fd }]);
  const shown = { type: 'Memfd', fd: memfd.fd, size: page, closed: false };
  assert.deepEqual(JSON.parse(JSON.stringify(memfd)), shown);
  assert.match(inspect(memfd), /^Memfd \{.*size: 4096.*closed: false.*\}$/s);
});

kernelTest('a Memfd whose descriptor another file has by now is refused, and not closed', () => {
  const memfd = Memfd.create(page);
  const { fd } = memfd;
  closeSync(fd);
  const stranger = openSync('/dev/null', 'r');
  assert.equal(stranger, fd);
  throwsCode(() => DmaBuf.fromMemfd(memfd), 'ERR_DMABUF_STALE_FD');
  memfd.close();
  assert.equal(readlinkSync(`/proc/self/fd/${stranger}`), '/dev/null');
  closeSync(stranger);
});

kernelTest('a Memfd that nobody keeps is closed, with a warning', async () => {
  const warned = new Promise<Error>((resolve) => process.once('warning', resolve));
  const { fd } = (() => ({ fd: Memfd.create(page).fd }))();
  await collectUntil(() => openHandles().length === 0);
  assert.match((await warned).message, /^A Memfd was garbage-collected without close\(\)/);
  assert.throws(() => fstatSync(fd), { code: 'EBADF' });
});

kernelTest('bad sizes, options and makers are refused', () => {
  throwsCode(() => Memfd.create(page + 1), 'ERR_OUT_OF_RANGE');
  throwsCode(() => Memfd.create(unsound('4096')), 'ERR_INVALID_ARG_TYPE');
  throwsCode(() => Memfd.create(page, unsound({ nam: 'x' })), 'ERR_INVALID_ARG_VALUE');
  throwsCode(() => Memfd.create(page, { hugePageSize: 3 }), 'ERR_OUT_OF_RANGE');
  throwsCode(() => new (unsound(Memfd))(), 'ERR_ILLEGAL_CONSTRUCTOR');
  throwsCode(() => DmaBuf.fromMemfd(unsound({ fd: 3 })), 'ERR_INVALID_ARG_TYPE');
});
