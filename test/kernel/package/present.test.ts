// What console.log(), JSON.stringify() and structuredClone() make of the objects.

import assert from 'node:assert/strict';
import { Console } from 'node:console';
import { closeSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { inspect } from 'node:util';
import * as workerThreads from 'node:worker_threads';
import * as core from 'dmabuf';
import {
  allocateSync,
  type DmaBuf,
  DmaBufChannel,
  DmaBufError,
  DmaBufPool,
  DmaHeap,
  FdStream,
  FrameReceiver,
  FrameSender,
  Memfd,
  type ReceivedFrame,
  type SyncFile,
} from 'dmabuf';
import * as frame from 'dmabuf/frame';
import * as inspection from 'dmabuf/inspect';
import * as metrics from 'dmabuf/metrics';
import * as vm from 'dmabuf/vm';
import { abstractName } from '../../support/abstract-name.js';
import { replaceByStranger } from '../../support/descriptors.js';
import { kernelTest } from '../../support/kernel-test.js';

const parsed = (value: unknown): Record<string, unknown> => JSON.parse(JSON.stringify(value));
const cannotRefuse =
  'markAsUncloneable' in workerThreads ? false : 'this Node.js has no way to refuse a clone';

kernelTest('a buffer is shown with its size, name, exporter and source', () => {
  using buffer = allocateSync(8192, { from: 'system', name: 'frame' });
  const { fd, inode } = buffer;
  const details = {
    fd,
    inode,
    size: 8192,
    exporter: 'system',
    name: 'frame',
    source: 'system',
    closed: false,
  };
  assert.deepEqual(parsed(buffer), { type: 'DmaBuf', ...details });
  assert.equal(inspect(buffer), inspect(details).replace(/^/, 'DmaBuf '));
});

kernelTest('a closed buffer is shown with what is still known', () => {
  const buffer = allocateSync(4096, { from: 'system' });
  const { inode } = buffer;
  buffer.close();
  assert.deepEqual(parsed(buffer), { type: 'DmaBuf', inode, size: 4096, source: 'system', closed: true });
  const unseen = allocateSync(4096);
  unseen.close();
  assert.match(inspect(unseen), /^DmaBuf \{.*closed: true\s\}$/);
});

kernelTest('a buffer whose descriptor stands for another file is shown, and the file left alone', () => {
  const buffer = allocateSync(4096);
  const { fd } = buffer;
  replaceByStranger(fd);
  const { fd: shown, exporter } = parsed(buffer);
  assert.deepEqual([shown, exporter], [-1, undefined]);
  assert.match(inspect(buffer), /^DmaBuf \{/);
  buffer.close();
  closeSync(fd);
});

kernelTest('a name that any process may have set cannot forge what is shown', () => {
  using buffer = allocateSync(4096, { name: "x', size: 1, \u001b[2J\n" });
  assert.equal(inspect(buffer).includes('\u001b'), false);
  assert.equal(parsed(buffer).size, 4096);
});

kernelTest('heaps, files of fences, mappings, accesses and loans are shown', async () => {
  using heap = DmaHeap.open('system');
  using buffer = heap.allocateSync(4096);
  using file: SyncFile = buffer.exportSyncFile('read');
  using mapping = buffer.map();
  using access = buffer.cpuAccessSync('write');
  using pool = new DmaBufPool(4096);
  using loan = await pool.acquire();
  const { fd } = heap;
  assert.deepEqual(parsed(heap), { type: 'DmaHeap', name: 'system', path: heap.path, fd, closed: false });
  const { type, status, fences, closed } = parsed(file);
  assert.deepEqual(
    { type, status, fences, closed },
    { type: 'SyncFile', status: 'signaled', fences: 1, closed: false },
  );
  assert.deepEqual(parsed(mapping), { type: 'DmaBufMapping', offset: 0, length: 4096, closed: false });
  assert.deepEqual(parsed(access), { type: 'CpuAccess', access: 'write', length: 4096, ended: false });
  assert.equal((parsed(loan).buffer as { size: number }).size, 4096);
  for (const object of [heap, file, mapping, access, pool, loan]) {
    assert.ok(inspect(object).startsWith(`${object.constructor.name} {`));
  }
});

/** One object of each class that is exported; `own` closes it when the test is over. */
type Make = (own: <T extends Disposable>(object: T) => T) => object | Promise<object>;

const aBuffer = (): DmaBuf => allocateSync(4096, { from: 'system' });

/** Objects that own something, or stand for it. */
const objects: Record<string, Make> = {
  CpuAccess: (own) => own(own(aBuffer()).cpuAccessSync('read')),
  DmaBuf: (own) => own(aBuffer()),
  DmaBufChannel(own) {
    const [here, there] = DmaBufChannel.pair();
    own(there);
    return own(here);
  },
  DmaBufMapping: (own) => own(own(aBuffer()).map()),
  DmaBufPool: (own) => own(new DmaBufPool(4096)),
  DmaBufServer: (own) => own(DmaBufChannel.listen(abstractName())),
  DmaHeap: (own) => own(DmaHeap.open('system')),
  FrameReceiver(own) {
    const [here, there] = DmaBufChannel.pair();
    own(there);
    return own(new FrameReceiver(here));
  },
  FrameSender: (own) => own(new FrameSender()),
  Memfd: (own) => own(Memfd.create(4096)),
  FdStream(own) {
    const [here, there] = FdStream.pair();
    own(there);
    return own(here);
  },
  FdStreamServer: (own) => own(FdStream.listen(abstractName())),
  PooledBuffer: async (own) => own(await own(new DmaBufPool(4096)).acquire()),
  async ReceivedFrame(own) {
    const [here, there] = DmaBufChannel.pair();
    const sender = own(new FrameSender(here));
    const receiver = own(new FrameReceiver(there));
    await sender.send(frame.frameOf(own(aBuffer()), 'R8', 8, 8));
    return own((await receiver.receive()) as ReceivedFrame);
  },
  SyncFile: (own) => own(own(aBuffer()).exportSyncFile('read')),
};

/** Errors, which are values: their clones say what happened. */
const errors: Record<string, () => Error> = {
  DmaBufError: () => new DmaBufError('EINVAL: invalid argument, ioctl', { code: 'EINVAL', errno: -22 }),
  VmError: () => new vm.VmError('ETIMEDOUT', 'it took too long'),
};

const isClass = (value: unknown): value is { name: string } =>
  typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value));

test('every class that is exported has a row here', () => {
  const exported = [core, frame, inspection, metrics, vm].flatMap((module) =>
    Object.values(module).filter(isClass),
  );
  const names = [...new Set(exported.map(({ name }) => name))];
  assert.deepEqual(names.sort(), [...Object.keys(objects), ...Object.keys(errors)].sort());
});

/** What console.log() writes. */
function logged(value: unknown): string {
  const stream = new PassThrough();
  new Console(stream).log(value);
  return String(stream.read());
}

/** Calls `check` with an object while it is open, and again when all that it needs is closed. */
async function openAndClosed(make: Make, check: (object: object) => void): Promise<void> {
  const owned: Disposable[] = [];
  let object: object | undefined;
  try {
    object = await make((one) => {
      owned.push(one);
      return one;
    });
    check(object);
  } finally {
    for (const one of owned.reverse()) one[Symbol.dispose]();
  }
  check(object);
}

for (const [name, make] of Object.entries(objects)) {
  kernelTest(`a ${name} is shown by what it is, open and closed, in console.log() and as JSON`, () =>
    openAndClosed(make, (object) => {
      assert.equal(object.constructor.name, name);
      const { type, ...details } = parsed(object);
      assert.equal(type, name);
      assert.ok(Object.keys(details).length > 0);
      const shown = inspect(object);
      assert.ok(shown.startsWith(`${name} {`), shown);
      for (const key of Object.keys(details)) assert.ok(shown.includes(`${key}: `), `${key} in ${shown}`);
      assert.equal(logged(object), `${shown}\n`);
      assert.equal(inspect({ object }, { depth: 0 }), `{ object: [${name}] }`);
    }),
  );

  kernelTest(
    `structuredClone() and postMessage() refuse a ${name}, open and closed`,
    () =>
      openAndClosed(make, (object) => {
        assert.throws(() => structuredClone(object), { name: 'DataCloneError' });
        assert.throws(() => structuredClone({ deep: [object] }), { name: 'DataCloneError' });
        const { port1, port2 } = new MessageChannel();
        try {
          assert.throws(() => port1.postMessage(object), { name: 'DataCloneError' });
        } finally {
          port1.close();
          port2.close();
        }
      }),
    cannotRefuse,
  );
}

for (const [name, make] of Object.entries(errors)) {
  test(`a ${name} is shown with its code, and its clone has its message`, () => {
    const error = make();
    const { code } = error as { code?: string };
    assert.equal(error.name, name);
    assert.ok(inspect(error).includes(`${name}: ${error.message}`));
    assert.ok(inspect(error).includes(`code: '${code}'`));
    assert.equal(logged(error), `${inspect(error)}\n`);
    assert.equal(parsed(error).message, error.message);
    assert.equal(parsed(error).code, code);
    assert.equal(structuredClone(error).message, error.message);
  });
}
