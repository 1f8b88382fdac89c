import assert from 'node:assert/strict';
import { closeSync, fstatSync, openSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { allocateSync, closeHandles, type DmaBuf, DmaBufChannel, openHandles } from 'dmabuf';
import { abstractName } from '../../support/abstract-name.js';
import { channelTest } from '../../support/channel-test.js';
import type { ChannelWorkerData, ChannelWorkerReport } from '../../support/channel-worker.js';
import { adopt, Folder, Pair } from '../../support/channels.js';
import {
  closeOnExec,
  flagsOf,
  inheritedFd,
  leavesNothing,
  notOpen,
  openFds,
} from '../../support/descriptors.js';
import { collectUntil, turns, until } from '../../support/event-loop.js';
import { rejectsCode, throwsCode, unsound } from '../../support/expect.js';
import { fileOf, next, nextText } from '../../support/messages.js';
import { removeMountPoint } from '../../support/mount-point.js';
import { notRoot } from '../../support/needs.js';
import type { ChannelChildReport } from '../../support/programs/channel-child.js';
import { startProgram } from '../../support/programs.js';
import { ForeignSocket } from '../../support/sockets.js';
import { openStrangers } from '../../support/strangers.js';

const nonBlocking = 0o4000;

const isOpen = (fd: number): boolean => openFds().has(fd);

// ---- pair, release, close

channelTest('the ends of a pair are two sockets that talk to each other', async () => {
  using pair = new Pair();
  assert.notEqual(fileOf(pair.here.fd), fileOf(pair.there.fd));
  await pair.here.send('to there');
  await pair.there.send('to here');
  assert.equal(await nextText(pair.there), 'to there');
  assert.equal(await nextText(pair.here), 'to here');
});

channelTest('the ends of a pair are close-on-exec and blocking', () => {
  using pair = new Pair();
  for (const end of [pair.here, pair.there]) {
    assert.deepEqual([flagsOf(end.fd) & closeOnExec, flagsOf(end.fd) & nonBlocking], [closeOnExec, 0]);
  }
});

channelTest('the peer of a pair is this process', () => {
  using pair = new Pair();
  const self = { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() };
  assert.deepEqual([pair.here.peer, pair.there.peer], [self, self]);
});

channelTest('what is done to the peer credentials does not change them', () => {
  using pair = new Pair();
  pair.here.peer.uid = 4711;
  assert.equal(pair.here.peer.uid, process.getuid?.());
});

channelTest('a maxMessageSize holds for both ends of a pair', () => {
  using pair = new Pair({ maxMessageSize: 5000 });
  assert.deepEqual([pair.here.maxMessageSize, pair.there.maxMessageSize], [5000, 5000]);
});

channelTest(
  'close() closes the descriptor; fd is -1 afterwards, and peer and maxMessageSize stay',
  async () => {
    using pair = new Pair();
    const { fd, peer, maxMessageSize } = pair.here;
    assert.deepEqual([pair.here.closed, isOpen(fd)], [false, true]);
    pair.here.close();
    assert.deepEqual([pair.here.closed, pair.here.fd], [true, -1]);
    await until(() => !isOpen(fd)); // by a thread, since the number was told
    assert.deepEqual([pair.here.peer, pair.here.maxMessageSize], [peer, maxMessageSize]);
  },
);

channelTest('close() may be called again, and does not close what has the number by then', async () => {
  using pair = new Pair();
  const { fd } = pair.here;
  pair.here.close();
  await until(() => !isOpen(fd));
  const stranger = openSync('/dev/null', 'r');
  assert.equal(stranger, fd);
  pair.here.close();
  pair.here[Symbol.dispose]();
  assert.ok(isOpen(stranger));
  closeSync(stranger);
});

channelTest('close() leaves a file alone that took its number', () => {
  using pair = new Pair();
  const { fd } = pair.here;
  closeSync(fd);
  const stranger = openSync('/dev/null', 'r');
  assert.equal(stranger, fd);
  pair.here.close();
  assert.ok(isOpen(stranger));
  closeSync(stranger);
});

channelTest('close() of a channel of which nobody knows the number closes it', () => {
  leavesNothing(() => {
    for (const end of DmaBufChannel.pair()) end.close();
  });
});

channelTest('using closes a channel', () => {
  leavesNothing(() => {
    const [here, there] = DmaBufChannel.pair();
    using _here = here;
    using _there = there;
  });
});

channelTest('release() gives the descriptor away, blocking and close-on-exec', () => {
  using pair = new Pair();
  const { fd } = pair.here;
  const released = pair.here.release();
  assert.deepEqual([released, pair.here.closed, pair.here.fd], [fd, true, -1]);
  assert.deepEqual([flagsOf(fd) & closeOnExec, flagsOf(fd) & nonBlocking], [closeOnExec, 0]);
  closeSync(fd);
});

channelTest('release() of a closed channel is refused', () => {
  using pair = new Pair();
  pair.here.close();
  throwsCode(() => pair.here.release(), 'ERR_DMABUF_CLOSED');
});

channelTest('sending and receiving at once leaves the socket blocking', async () => {
  using pair = new Pair();
  await pair.here.send('x');
  await pair.there.receive();
  assert.deepEqual([flagsOf(pair.here.fd) & nonBlocking, flagsOf(pair.there.fd) & nonBlocking], [0, 0]);
});

channelTest('messages survive release() and adopt()', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  await pair.here.send('x', [buffer]);
  using adopted = DmaBufChannel.adopt(pair.there.release());
  const { data, handles } = await next(adopted);
  assert.deepEqual([Buffer.from(data).toString(), (handles[0] as DmaBuf).inode], ['x', buffer.inode]);
  closeHandles(handles);
});

// ---- adopt

channelTest("adopt() takes another program's socket over, and marks it close-on-exec", async () => {
  const [own, peer] = ForeignSocket.pair();
  const { fd } = own;
  using channel = adopt(own);
  assert.equal(channel.fd, fd);
  assert.ok((flagsOf(fd) & closeOnExec) !== 0);
  peer.send('x');
  assert.equal(await nextText(channel), 'x');
  peer.close();
});

channelTest('adopt() takes both ends of a connection by path', async () => {
  using folder = new Folder();
  using server = ForeignSocket.serve(folder.file());
  using client = adopt(ForeignSocket.connect(folder.file()));
  const accepted = server.accept();
  assert.ok(accepted);
  using channel = adopt(accepted);
  await client.send('x');
  assert.equal(await nextText(channel), 'x');
});

const refusals: readonly [string, string, RegExp, () => ForeignSocket[]][] = [
  ['a stream socket', 'EPROTOTYPE', /SOCK_SEQPACKET/, () => ForeignSocket.pair('stream')],
  ['a datagram socket', 'EPROTOTYPE', /SOCK_SEQPACKET/, () => ForeignSocket.pair('datagram')],
  ['a TCP socket', 'EPROTOTYPE', /SOCK_SEQPACKET/, () => [ForeignSocket.internet()]],
  ['a socket that is not connected', 'ENOTCONN', /not connected/, () => [ForeignSocket.create('seqpacket')]],
  ['a socket that listens', 'ENOTCONN', /not connected/, () => [ForeignSocket.serve(abstractName())]],
];
for (const [what, code, reason, make] of refusals) {
  for (const options of [{}, { maxMessageSize: 4000 }]) {
    const more = options.maxMessageSize === undefined ? '' : ' with options';
    channelTest(`adopt()${more} refuses ${what} with ${code} and the reason, and leaves it as it was`, () => {
      const sockets = make();
      const { fd } = sockets[0] as ForeignSocket;
      const before = flagsOf(fd);
      const error = throwsCode(() => DmaBufChannel.adopt(fd, options), code);
      assert.match(error.message, reason);
      assert.deepEqual([isOpen(fd), flagsOf(fd)], [true, before]);
      for (const socket of sockets) socket.close();
    });
  }
}

channelTest('adopt() refuses every file that is no socket, and leaves it open', async () => {
  const strangers = await openStrangers();
  using buffer = allocateSync(4096);
  const fds = new Map([...strangers.fds, ['a dma-buf', buffer.fd]]);
  try {
    for (const [kind, fd] of fds) {
      const code = kind === 'a path' ? 'EBADF' : kind === 'a socket' ? 'EPROTOTYPE' : 'ENOTSOCK';
      const before = fileOf(fd);
      leavesNothing(() => throwsCode(() => DmaBufChannel.adopt(fd), code, kind));
      assert.equal(fileOf(fd), before);
    }
  } finally {
    strangers.close();
  }
});

channelTest('adopt() of a number that is not open is EBADF', () => {
  throwsCode(() => DmaBufChannel.adopt(notOpen), 'EBADF');
  throwsCode(() => DmaBufChannel.adopt(2 ** 31 - 1), 'EBADF');
});

// ---- collection

channelTest(
  'a channel that nobody refers to is closed when it is collected: the peer sees the end',
  async () => {
    const here = (() => DmaBufChannel.pair()[0])();
    await collectUntil(() => openHandles().length === 1);
    assert.equal(await here.receive(), undefined);
    here.close();
  },
);

channelTest('a channel that waits for a message is not collected', async () => {
  const [here, receiving] = (() => {
    const [one, other] = DmaBufChannel.pair();
    return [one, other.receive()] as const;
  })();
  for (let round = 0; round < 10; round++) await collectUntil(() => true);
  await here.send('x');
  assert.equal(Buffer.from((await receiving)?.data ?? []).toString(), 'x');
  here.close();
  await collectUntil(() => openHandles().length === 0);
});

channelTest('a channel that waits to send is not collected, nor is what it sends', async () => {
  const there = await (async () => {
    const [one, other] = DmaBufChannel.pair();
    using buffer = allocateSync(4096);
    for (let sent = 0; sent < 30; sent++) void one.send(Buffer.alloc(16_384), [buffer]);
    return other;
  })();
  for (let round = 0; round < 10; round++) await collectUntil(() => true);
  let received = 0;
  for await (const { handles } of there) {
    closeHandles(handles);
    if (++received === 30) break;
  }
  await collectUntil(() => openHandles().length === 1);
  assert.equal(await there.receive(), undefined);
  there.close();
});

// ---- closeHandles

channelTest('closeHandles closes buffers, sync_files and numbers', () => {
  leavesNothing(() => {
    using buffer = allocateSync(4096);
    closeHandles([buffer.dup(), buffer.exportSyncFile('read'), buffer.dup().release()]);
    closeHandles([]);
  });
});

channelTest('closeHandles passes over what is closed already', () => {
  leavesNothing(() => {
    const [one, other] = [allocateSync(4096), allocateSync(4096)];
    one.close();
    closeHandles([one, other, other]);
    assert.equal(other.closed, true);
  });
});

channelTest('closeHandles closes nothing when one of them is no handle', () => {
  using buffer = allocateSync(4096);
  throwsCode(() => closeHandles([buffer, unsound('x')]), 'ERR_INVALID_ARG_TYPE');
  assert.equal(buffer.closed, false);
});

channelTest('closeHandles closes the others when a number is not open, and says EBADF', () => {
  const [first, last] = [allocateSync(4096), allocateSync(4096)];
  throwsCode(() => closeHandles([first, notOpen, last]), 'EBADF');
  const closed = [first.closed, last.closed];
  last.close();
  assert.deepEqual(closed, [true, true]);
});

channelTest('closeHandles closes the handles of several messages together', () => {
  leavesNothing(() => {
    using buffer = allocateSync(4096);
    closeHandles(Array.from({ length: 300 }, () => buffer.dup()));
  });
});

// ---- other threads and processes

/** Starts a worker that adopts `fd`; resolves with its report when it has ended. */
function inWorker(data: ChannelWorkerData): Promise<ChannelWorkerReport> {
  const worker = new Worker(new URL('../../support/channel-worker.js', import.meta.url), {
    workerData: data,
  });
  return new Promise((resolve, reject) => {
    let report: ChannelWorkerReport | undefined;
    worker.on('message', (message: ChannelWorkerReport) => {
      report = message;
    });
    worker.on('error', reject);
    worker.on('exit', () => (report ? resolve(report) : reject(new Error('the worker said nothing'))));
  });
}

channelTest('a channel moves to a worker: release() here, adopt() there', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  buffer.write(Buffer.from('from the main thread'));
  await pair.here.send('before', [buffer]);
  const working = inWorker({ fd: pair.there.release(), role: 'answer' });
  const { data, handles } = await next(pair.here);
  assert.equal(Buffer.from(data).toString(), 'got before');
  const [answer] = handles as [DmaBuf];
  const seen = Buffer.alloc(20);
  answer.read(seen);
  assert.deepEqual([answer.inode, seen.toString()], [buffer.inode, 'from the main thread']);
  answer.close();
  pair.here.close();
  assert.deepEqual(await working, { inode: buffer.inode, ended: true });
});

channelTest('two threads that receive large messages at once do not mix their bytes', async () => {
  using one = new Pair();
  using other = new Pair();
  const working = inWorker({ fd: other.there.release(), role: 'count' });
  const large = Buffer.alloc(100_000, 1);
  const other100k = Buffer.alloc(100_000, 2);
  for (let round = 0; round < 50; round++) {
    await Promise.all([one.here.send(large), other.here.send(other100k)]);
    const { data } = await next(one.there);
    assert.ok(data.every((byte) => byte === 1));
  }
  other.here.close();
  assert.deepEqual(await working, { bytes: { 2: 50 * 100_000 }, ended: true });
});

channelTest('a worker that ends closes its channels, and the peer sees the end', async () => {
  using pair = new Pair();
  const working = inWorker({ fd: pair.there.release(), role: 'leave' });
  assert.equal(await pair.here.receive(), undefined);
  await working;
});

channelTest(
  'a worker that is terminated while it waits closes its channels, and what waits in line',
  async () => {
    using pair = new Pair();
    const data: ChannelWorkerData = { fd: pair.there.release(), role: 'wait' };
    const worker = new Worker(new URL('../../support/channel-worker.js', import.meta.url), {
      workerData: data,
    });
    const { handles } = await next(pair.here);
    closeHandles(handles);
    await worker.terminate();
    for await (const message of pair.here) closeHandles(message.handles);
    await turns();
  },
);

/** A child with one end of a pair as its descriptor `inheritedFd`. */
function startChild(there: DmaBufChannel): Promise<ChannelChildReport> {
  const fds = Array.from({ length: inheritedFd }, () => 'ignore' as const);
  return startProgram<ChannelChildReport>('channel-child', { fds: [...fds.slice(3), there.fd] }).report;
}

channelTest('a child process adopts the end that it inherited: buffers go there and back', async () => {
  using pair = new Pair();
  const child = startChild(pair.there);
  pair.there.close();
  using buffer = allocateSync(4096);
  await pair.here.send('hello', [buffer]);
  const { data, handles } = await next(pair.here);
  assert.equal(Buffer.from(data).toString(), 'hello too');
  const seen = Buffer.alloc(15);
  buffer.read(seen);
  assert.equal(seen.toString(), 'from the child.');
  const [own] = handles as [DmaBuf];
  own.read(seen);
  assert.equal(seen.toString(), "the child's own");
  assert.equal(await pair.here.receive(), undefined);
  own.close();
  const { inode, name, fd, flagBefore, flagAfter } = await child;
  assert.deepEqual([inode, name, fd], [buffer.inode, 'DmaBuf', inheritedFd]);
  assert.deepEqual([flagBefore, flagAfter], [false, true]);
});

channelTest("a buffer's memory survives the process that allocated it", async () => {
  using pair = new Pair();
  const child = startChild(pair.there);
  pair.there.close();
  using buffer = allocateSync(4096);
  await pair.here.send('hello', [buffer]);
  await child;
  const { handles } = await next(pair.here);
  const seen = Buffer.alloc(15);
  (handles[0] as DmaBuf).read(seen);
  assert.equal(seen.toString(), "the child's own");
  closeHandles(handles);
});

// ---- a file system whose server does not answer

channelTest(
  'an open file of a file system whose server does not answer arrives all the same',
  async () => {
    using pair = new Pair();
    const sleeping = startProgram<never>('sleeping-file-system', { fds: [pair.there.fd] });
    pair.there.close();
    const folder = await sleeping.line();
    try {
      // fstat(2) of that file would hang here for ever.
      const { handles } = await next(pair.here);
      assert.equal(typeof handles[0], 'number');
      closeHandles(handles);
    } finally {
      sleeping.kill();
      await sleeping.end;
      removeMountPoint(folder);
    }
  },
  notRoot,
);

channelTest('a channel is refused as what another class wants', async () => {
  using pair = new Pair();
  await rejectsCode(() => DmaBufChannel.prototype.send.call({} as never, 'x'), 'ERR_INVALID_THIS');
  await rejectsCode(() => DmaBufChannel.prototype.receive.call({} as never), 'ERR_INVALID_THIS');
  assert.equal(fstatSync(pair.here.fd).isSocket(), true);
});
