import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { allocateSync, DmaBuf, SyncFile } from 'dmabuf';
import { testArguments } from '../../support/argument-tests.js';
import { type BadValue, badFds, badRequiredAccesses, badRequiredNames } from '../../support/bad-values.js';
import {
  closeOnExec,
  flagsOf,
  leavesNothing,
  notOpen,
  openFds,
  replaceByStranger,
} from '../../support/descriptors.js';
import { assertCode, rejectsCode, throwsCode, unsound } from '../../support/expect.js';
import { fenceTest } from '../../support/fences.js';
import { kernelTest } from '../../support/kernel-test.js';
import { openStrangers } from '../../support/strangers.js';
import { Fenced } from '../../support/sync-files.js';

const badDeadlines: readonly BadValue[] = [
  ['undefined', undefined, 'ERR_INVALID_ARG_TYPE'],
  ['a number', 1, 'ERR_INVALID_ARG_TYPE'],
  ['null', null, 'ERR_INVALID_ARG_TYPE'],
  ['a string', '1', 'ERR_INVALID_ARG_TYPE'],
  ['a boxed bigint', Object(1n), 'ERR_INVALID_ARG_TYPE'],
  ['-1', -1n, 'ERR_OUT_OF_RANGE'],
  ['2^64', 2n ** 64n, 'ERR_OUT_OF_RANGE'],
  ['2^200', 2n ** 200n, 'ERR_OUT_OF_RANGE'],
];

const badFiles: readonly BadValue[] = [
  ['undefined', undefined, 'ERR_INVALID_ARG_TYPE'],
  ['null', null, 'ERR_INVALID_ARG_TYPE'],
  ['a descriptor', 3, 'ERR_INVALID_ARG_TYPE'],
  ['an object', {}, 'ERR_INVALID_ARG_TYPE'],
  ['an object with the prototype of SyncFile', Object.create(SyncFile.prototype), 'ERR_INVALID_ARG_TYPE'],
];

function withFile<T>(fn: (file: SyncFile, buffer: DmaBuf) => T): T {
  using buffer = allocateSync(4096);
  using file = buffer.exportSyncFile('read');
  return fn(file, buffer);
}

testArguments(kernelTest, [
  {
    argument: 'SyncFile.merge, name,',
    bad: badRequiredNames,
    call: (value) => withFile((file) => SyncFile.merge(unsound(value), file, file)),
  },
  {
    argument: 'SyncFile.merge, first,',
    bad: badFiles,
    call: (value) => withFile((file) => SyncFile.merge('x', unsound(value), file)),
  },
  {
    argument: 'SyncFile.merge, second,',
    bad: badFiles,
    call: (value) => withFile((file) => SyncFile.merge('x', file, unsound(value))),
  },
  {
    argument: 'SyncFile.merge, one of more,',
    bad: badFiles,
    call: (value) => withFile((file) => SyncFile.merge('x', file, file, file, unsound(value))),
  },
  {
    argument: 'setDeadline, deadline,',
    bad: badDeadlines,
    call: (value) => withFile((file) => file.setDeadline(unsound(value))),
  },
  { argument: 'SyncFile.import, fd,', bad: badFds, call: (value) => SyncFile.import(unsound(value)) },
  { argument: 'SyncFile.adopt, fd,', bad: badFds, call: (value) => SyncFile.adopt(unsound(value)) },
  {
    argument: 'exportSyncFile, access,',
    bad: badRequiredAccesses,
    call: (value) => withFile((_file, buffer) => buffer.exportSyncFile(unsound(value))),
  },
  {
    argument: 'importSyncFile, access,',
    bad: badRequiredAccesses,
    call: (value) => withFile((file, buffer) => buffer.importSyncFile(file, unsound(value))),
  },
  {
    argument: 'importSyncFile, file,',
    bad: badFiles,
    call: (value) => withFile((_file, buffer) => buffer.importSyncFile(unsound(value), 'read')),
  },
]);

kernelTest('a merge with a closed file is refused, wherever it stands, and leaves nothing', () => {
  using buffer = allocateSync(4096);
  using file = buffer.exportSyncFile('read');
  const closed = file.dup();
  closed.close();
  leavesNothing(() => {
    throwsCode(() => SyncFile.merge('x', closed, file), 'ERR_DMABUF_CLOSED');
    throwsCode(() => SyncFile.merge('x', file, closed), 'ERR_DMABUF_CLOSED');
    throwsCode(() => SyncFile.merge('x', file, file, file, closed, file), 'ERR_DMABUF_CLOSED');
  });
  throwsCode(() => buffer.importSyncFile(closed, 'read'), 'ERR_DMABUF_CLOSED');
});

fenceTest('dup has the same fences and a descriptor of its own', () => {
  using fenced = new Fenced();
  using copy = fenced.file.dup();
  assert.notEqual(copy.fd, fenced.file.fd);
  fenced.file.close();
  assert.equal(copy.status, 'active');
  fenced.fence.signal();
  assert.equal(copy.status, 'signaled');
});

kernelTest('import duplicates, and leaves the given descriptor alone', () => {
  using buffer = allocateSync(4096);
  using file = buffer.exportSyncFile('read');
  const imported = SyncFile.import(file.fd);
  assert.notEqual(imported.fd, file.fd);
  imported.close();
  assert.equal(file.status, 'signaled');
});

kernelTest('what is released can be adopted, under the same number and close-on-exec', () => {
  using buffer = allocateSync(4096);
  const file = buffer.exportSyncFile('read');
  const { fd } = file;
  assert.equal(file.release(), fd);
  assert.deepEqual([file.closed, file.fd], [true, -1]);
  using adopted = SyncFile.adopt(fd);
  assert.equal(adopted.fd, fd);
  assert.ok((flagsOf(fd) & closeOnExec) !== 0);
});

kernelTest('every descriptor that a SyncFile opens is close-on-exec', () => {
  using buffer = allocateSync(4096);
  using exported = buffer.exportSyncFile('read');
  using copy = exported.dup();
  using imported = SyncFile.import(exported.fd);
  using merged = SyncFile.merge('x', exported, copy);
  for (const { fd } of [exported, copy, imported, merged]) assert.ok((flagsOf(fd) & closeOnExec) !== 0);
});

kernelTest('close is idempotent, and using closes', () => {
  using buffer = allocateSync(4096);
  const before = openFds().size;
  const file = buffer.exportSyncFile('read');
  file.close();
  file.close();
  file[Symbol.dispose]();
  {
    using _file = buffer.exportSyncFile('read');
  }
  assert.equal(openFds().size, before);
  assert.deepEqual([file.closed, file.fd], [true, -1]);
});

kernelTest('after close, everything but close throws ERR_DMABUF_CLOSED', async () => {
  using buffer = allocateSync(4096);
  const file = buffer.exportSyncFile('read');
  file.close();
  throwsCode(() => file.status, 'ERR_DMABUF_CLOSED');
  throwsCode(() => file.info(), 'ERR_DMABUF_CLOSED');
  throwsCode(() => file.setDeadline(1n), 'ERR_DMABUF_CLOSED');
  throwsCode(() => file.dup(), 'ERR_DMABUF_CLOSED');
  throwsCode(() => file.release(), 'ERR_DMABUF_CLOSED');
  await rejectsCode(() => file.wait(), 'ERR_DMABUF_CLOSED');
});

// Another sync_file cannot be told from the first: all of them share one inode.
kernelTest('a descriptor that now is another kind of file is never taken for the sync_file', async () => {
  using buffer = allocateSync(4096);
  const file = buffer.exportSyncFile('read');
  using other = buffer.exportSyncFile('write');
  const { fd } = file;
  replaceByStranger(fd);
  const stale = 'ERR_DMABUF_STALE_FD';
  throwsCode(() => file.status, stale);
  throwsCode(() => file.info(), stale);
  throwsCode(() => file.setDeadline(1n), stale);
  throwsCode(() => file.dup(), stale);
  throwsCode(() => file.release(), stale);
  throwsCode(() => SyncFile.merge('x', file, other), stale);
  throwsCode(() => SyncFile.merge('x', other, file), stale);
  throwsCode(() => buffer.importSyncFile(file, 'read'), stale);
  await rejectsCode(() => file.wait(), stale);
  file.close();
  closeSync(fd); // still open: it was not ours to close
});

kernelTest('import and adopt refuse a dma-buf, and every other kind of file', async (t) => {
  using buffer = allocateSync(4096);
  const strangers = await openStrangers();
  t.after(() => strangers.close());
  for (const [kind, fd] of [...strangers.fds, ['a dma-buf', buffer.fd] as const]) {
    for (const method of ['import', 'adopt'] as const) {
      const error = leavesNothing(() => {
        try {
          SyncFile[method](fd).close();
        } catch (reason) {
          return reason;
        }
        return assert.fail(`${method} took ${kind}`);
      });
      assertCode(error, kind === 'a path' ? 'EBADF' : 'ENOTTY', `${method} of ${kind}`);
    }
  }
  throwsCode(() => SyncFile.import(notOpen), 'EBADF');
  throwsCode(() => SyncFile.adopt(notOpen), 'EBADF');
});

kernelTest('DmaBuf refuses a sync_file', () => {
  using buffer = allocateSync(4096);
  using file = buffer.exportSyncFile('read');
  throwsCode(() => DmaBuf.import(file.fd), 'ERR_DMABUF_NOT_DMABUF');
  assert.equal(DmaBuf.isDmaBuf(file.fd), false);
});

kernelTest('every method needs a SyncFile as this', async () => {
  using buffer = allocateSync(4096);
  for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(SyncFile.prototype))) {
    if (name === 'constructor') continue;
    const method = property.get ?? (property.value as (...args: unknown[]) => unknown);
    for (const self of [undefined, null, 1, {}, buffer, Object.create(SyncFile.prototype)]) {
      const label = `${name} of ${String(typeof self)}`;
      if (name === 'wait') await rejectsCode(() => method.call(unsound(self)), 'ERR_INVALID_THIS', label);
      else throwsCode(() => method.call(unsound(self), 1n), 'ERR_INVALID_THIS', label);
    }
  }
});

kernelTest('SyncFile cannot be constructed', () => {
  const Constructor = unsound(SyncFile) as new (...args: unknown[]) => unknown;
  throwsCode(() => new Constructor(0), 'ERR_ILLEGAL_CONSTRUCTOR');
  throwsCode(() => new Constructor(0, Symbol('SyncFile')), 'ERR_ILLEGAL_CONSTRUCTOR');
});
