// Numbers of descriptors that JavaScript is given: who closes them, and when.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, cpSync, fstatSync, mkdirSync, mkdtempSync, openSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { allocateSync, closeHandles, createMemfd, DmaBuf, DmaBufChannel } from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import { openFds } from '../../../support/descriptors.js';
import { until } from '../../../support/event-loop.js';
import { rejectsCode, throwsCode } from '../../../support/expect.js';
import { asBuffer } from '../../../support/handles.js';
import { programFile, receiveFrom } from '../../../support/peers.js';
import { packageRoot } from '../../../support/programs.js';

const worker = (what: string): Worker => new Worker(programFile('numbers-worker'), { argv: [what] });

channelTest('closeHandles() closes what messages, createMemfd() and release() gave', () => {
  const [here, there] = DmaBufChannel.pair();
  const numbers = [createMemfd(4096), allocateSync(4096).release(), here.release(), there.release()];
  closeHandles(numbers);
  for (const fd of numbers) throwsCode(() => DmaBuf.isDmaBuf(fd), 'EBADF');
});

channelTest('closeHandles() closes a number once, and says of the second time that it is not open', () => {
  const memfd = createMemfd(4096);
  throwsCode(() => closeHandles([memfd, memfd]), 'EBADF');
  throwsCode(() => closeHandles([memfd]), 'EBADF');
});

channelTest('numbers are closed in a worker without a warning', () => {
  const main = `new (require('node:worker_threads').Worker)(${JSON.stringify(programFile('numbers-worker'))}, { argv: ['close'] })`;
  const { status, stderr } = spawnSync(process.execPath, ['-e', main], {
    cwd: packageRoot,
    encoding: 'utf8',
  });
  assert.deepEqual([status, stderr], [0, '']);
});

channelTest('a worker that ends closes the numbers that it was given', async () => {
  const before = openFds().size;
  const ending = worker('keep');
  await once(ending, 'exit');
  await until(() => openFds().size <= before);
});

channelTest('a worker that ends leaves a number alone that has become another file', async () => {
  const ending = worker('reuse');
  const [number] = (await once(ending, 'message')) as [number];
  const opened: number[] = [];
  while (opened.at(-1) !== number) opened.push(openSync('/etc/passwd', 'r'));
  ending.postMessage('go on');
  await once(ending, 'exit');
  assert.equal(fstatSync(number).isFile(), true);
  for (const fd of opened) closeSync(fd);
});

channelTest('objects of another copy of the package can be sent', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
  try {
    for (const part of ['dist/package', 'build/Release']) {
      mkdirSync(join(folder, part), { recursive: true });
      cpSync(join(packageRoot, part), join(folder, part), { recursive: true });
    }
    cpSync(join(packageRoot, 'package.json'), join(folder, 'package.json'));
    symlinkSync(join(packageRoot, 'node_modules'), join(folder, 'node_modules'));
    const copy = (await import(join(folder, 'dist/package/index.js'))) as typeof import('dmabuf');
    const foreign = copy.allocateSync(4096);
    assert.equal(foreign instanceof DmaBuf, false);
    const [here, there] = DmaBufChannel.pair();
    const fences = foreign.exportSyncFile('read');
    await here.send('x', [foreign, fences]);
    const { handles } = await receiveFrom(there);
    assert.equal(asBuffer(handles[0]).inode, foreign.inode);
    closeHandles([...handles, foreign, fences]);
    await rejectsCode(() => here.send('x', [{ fd: 3 } as unknown as number]), 'ERR_INVALID_ARG_TYPE');
    here.close();
    there.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

channelTest('what is sent is what was given, whatever a getter does meanwhile', async () => {
  using first = allocateSync(4096);
  using second = allocateSync(8192);
  const [here, there] = DmaBufChannel.pair();
  let asked = 0;
  class Copy {
    get fd(): number {
      asked++;
      // Each has the addon put other numbers where a message's handles are collected.
      second.info();
      void here.fd;
      return second.fd;
    }
  }
  Object.defineProperty(Copy, 'name', { value: 'DmaBuf' });
  await here.send('x', [first, new Copy() as never, first]);
  assert.equal(asked, 1);
  const { handles } = await receiveFrom(there);
  assert.deepEqual(
    handles.map((handle) => asBuffer(handle).inode),
    [first.inode, second.inode, first.inode],
  );
  closeHandles(handles);
  here.close();
  there.close();
});

channelTest(
  'a buffer or a channel that a getter closes while a message is put together is not sent',
  async () => {
    using kept = allocateSync(4096);
    const [here, there] = DmaBufChannel.pair();
    const closing = (end: () => void): never => {
      class Copy {
        get fd(): number {
          end();
          return kept.fd;
        }
      }
      Object.defineProperty(Copy, 'name', { value: 'SyncFile' });
      return new Copy() as never;
    };
    const closed = allocateSync(4096);
    await rejectsCode(() => here.send('x', [closed, closing(() => closed.close())]), 'ERR_DMABUF_CLOSED');
    await rejectsCode(() => here.send('x', [kept, closing(() => here.close())]), 'ERR_DMABUF_CLOSED');
    assert.equal(await there.receive(), undefined);
    there.close();
  },
);

channelTest('no function of the program gets hold of the memory that messages arrive in', async () => {
  const prototype = Object.getPrototypeOf(Uint8Array.prototype) as Record<string, unknown>;
  const stolen = new Set<Uint8Array>();
  const restore: (() => void)[] = [];
  for (const name of Reflect.ownKeys(prototype) as string[]) {
    const descriptor = Object.getOwnPropertyDescriptor(prototype, name) as PropertyDescriptor;
    if (name === 'constructor' || !descriptor.configurable) continue;
    const spy = <F extends (...args: never[]) => unknown>(real: F): F =>
      function (this: Uint8Array, ...args: never[]) {
        stolen.add(this);
        return Reflect.apply(real, this, args);
      } as unknown as F;
    const changed: PropertyDescriptor = { ...descriptor };
    if (typeof descriptor.value === 'function') changed.value = spy(descriptor.value);
    else if (descriptor.get !== undefined) changed.get = spy(descriptor.get as () => unknown);
    else continue;
    restore.push(() => Object.defineProperty(prototype, name, descriptor));
    Object.defineProperty(prototype, name, changed);
  }
  // slice() asks an array for it, to find the class of the copy.
  const species = Object.getOwnPropertyDescriptor(Uint8Array.prototype, 'constructor') as PropertyDescriptor;
  restore.push(() => Object.defineProperty(Uint8Array.prototype, 'constructor', species));
  Object.defineProperty(Uint8Array.prototype, 'constructor', {
    configurable: true,
    get(this: Uint8Array) {
      stolen.add(this);
      return species.value;
    },
  });
  try {
    const [here, there] = DmaBufChannel.pair({ maxMessageSize: 250_000 });
    await here.send('some text', []);
    const received = await there.receive();
    here.close();
    there.close();
    assert.equal(received?.data.length, 9);
  } finally {
    for (const put of restore) put();
  }
  for (const array of stolen) assert.ok(array.byteLength < 200_000, 'the memory of the addon was reachable');
});
