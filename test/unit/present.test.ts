import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { inspect } from 'node:util';
import * as workerThreads from 'node:worker_threads';
import {
  CpuAccess,
  DmaBuf,
  DmaBufChannel,
  DmaBufError,
  DmaBufMapping,
  DmaBufPool,
  DmaBufServer,
  DmaHeap,
  FdStream,
  FdStreamServer,
  PooledBuffer,
  SyncFile,
} from 'dmabuf';
import { abstractName } from '../support/abstract-name.js';

const classes = [
  CpuAccess,
  DmaBuf,
  DmaBufChannel,
  DmaBufMapping,
  DmaBufPool,
  DmaBufServer,
  DmaHeap,
  FdStream,
  FdStreamServer,
  PooledBuffer,
  SyncFile,
];

const cannotRefuse =
  'markAsUncloneable' in workerThreads ? false : 'this Node.js has no way to refuse a clone';

describe('a prototype', () => {
  for (const { name, prototype } of classes) {
    test(`${name}.prototype can be inspected, at any depth`, () => {
      inspect(prototype);
      inspect({ prototype }, { depth: 0 });
      inspect(prototype, { showHidden: true, getters: true });
      assert.equal(inspect(Object.create(prototype)), `${name} {}`);
    });
  }
});

describe('a channel', () => {
  test('is shown with its peer, and that it is open', () => {
    const [here, there] = DmaBufChannel.pair();
    const { pid } = process;
    const { peer, maxMessageSize, fd } = here;
    assert.match(inspect(here), new RegExp(`^DmaBufChannel \\{.*pid: ${pid}.*closed: false\\s\\}$`, 's'));
    assert.deepEqual(JSON.parse(JSON.stringify(here)), {
      type: 'DmaBufChannel',
      fd,
      peer,
      maxMessageSize,
      closed: false,
    });
    here.close();
    there.close();
    assert.match(inspect(here), /closed: true\s\}$/);
  });

  test('is refused by structuredClone()', { skip: cannotRefuse }, () => {
    const [here, there] = DmaBufChannel.pair();
    assert.throws(() => structuredClone(here), { name: 'DataCloneError' });
    here.close();
    there.close();
  });
});

test('a server is shown with its path', () => {
  const path = abstractName();
  const server = DmaBufChannel.listen(path);
  const { fd } = server;
  assert.deepEqual(JSON.parse(JSON.stringify(server)), { type: 'DmaBufServer', fd, path, closed: false });
  assert.ok(inspect(server).startsWith('DmaBufServer {'));
  server.close();
  assert.deepEqual(JSON.parse(JSON.stringify(server)), { type: 'DmaBufServer', path, closed: true });
});

test('a stream and its server are shown with their details', () => {
  const path = abstractName();
  const server = FdStream.listen(path);
  assert.deepEqual(JSON.parse(JSON.stringify(server)), {
    type: 'FdStreamServer',
    fd: server.fd,
    address: path,
    closed: false,
  });
  server.close();
  const [here, there] = FdStream.pair();
  const { fd, peer } = here;
  assert.deepEqual(JSON.parse(JSON.stringify(here)), {
    type: 'FdStream',
    fd,
    peer,
    unclaimed: 0,
    closed: false,
  });
  here.destroy();
  there.destroy();
  assert.match(inspect(here), /^FdStream \{.*closed: true\s\}$/s);
});

test('a pool is shown with its figures', () => {
  using pool = new DmaBufPool(4096, { max: 3 });
  assert.match(inspect(pool), /^DmaBufPool \{.*size: 4096,.*max: 3,.*inUse: 0,.*closed: false.*\}$/s);
});

test('an error has its message as JSON', () => {
  const error = new DmaBufError('EINVAL: invalid argument, ioctl', {
    code: 'EINVAL',
    errno: -22,
    hint: 'Stop',
  });
  assert.deepEqual(JSON.parse(JSON.stringify(error)), {
    name: 'DmaBufError',
    message: 'EINVAL: invalid argument, ioctl. Stop.',
    code: 'EINVAL',
    errno: -22,
    hint: 'Stop.',
  });
});

test('an error says by its clone what happened', () => {
  const error = new DmaBufError('EINVAL: invalid argument, ioctl', { code: 'EINVAL' });
  assert.equal(structuredClone(error).message, error.message);
});
