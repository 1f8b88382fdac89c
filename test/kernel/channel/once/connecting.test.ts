import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { DmaBufChannel, openHandles } from 'dmabuf';
import { abstractName } from '../../../support/abstract-name.js';
import { channelTest } from '../../../support/channel-test.js';
import { Folder, withSomaxconn } from '../../../support/channels.js';
import { leavesNothing } from '../../../support/descriptors.js';
import { turns, watch } from '../../../support/event-loop.js';
import { rejectsCode, rejectsWith } from '../../../support/expect.js';
import { nextText } from '../../../support/messages.js';
import { notRoot } from '../../../support/needs.js';
import { startProgram } from '../../../support/programs.js';
import { ForeignSocket, OwnedFd } from '../../../support/sockets.js';

// ---- who cannot be connected to

interface Failure {
  what: string;
  code: string;
  reason: RegExp;
  /** Prepares the folder's `socket`. */
  make(folder: Folder): ForeignSocket | undefined;
}

const failures: readonly Failure[] = [
  { what: 'nothing', code: 'ENOENT', reason: /No server listens/, make: () => undefined },
  {
    what: "a dead server's file",
    code: 'ECONNREFUSED',
    reason: /No server listens/,
    make: (folder) => void ForeignSocket.leaveStale(folder.file()) as undefined,
  },
  {
    what: 'a regular file',
    code: 'ECONNREFUSED',
    reason: /No server listens/,
    make: (folder) => void writeFileSync(folder.file(), 'x') as undefined,
  },
  {
    what: 'a directory',
    code: 'ECONNREFUSED',
    reason: /No server listens/,
    make: (folder) => void mkdirSync(folder.file()) as undefined,
  },
  {
    what: 'a stream socket',
    code: 'EPROTOTYPE',
    reason: /SOCK_SEQPACKET/,
    make: (folder) => ForeignSocket.serve(folder.file(), 'stream'),
  },
  {
    what: 'a datagram socket',
    code: 'EPROTOTYPE',
    reason: /SOCK_SEQPACKET/,
    make: (folder) => ForeignSocket.serve(folder.file(), 'datagram'),
  },
  {
    what: 'a socket that is bound and does not listen',
    code: 'ECONNREFUSED',
    reason: /No server listens/,
    make(folder) {
      const socket = ForeignSocket.create('seqpacket');
      socket.bind(folder.file());
      return socket;
    },
  },
  {
    what: 'a link to itself',
    code: 'ELOOP',
    reason: /ELOOP/,
    make: (folder) => void symlinkSync('socket', folder.file()) as undefined,
  },
];
for (const { what, code, reason, make } of failures) {
  channelTest(`connecting to ${what} is ${code} with the path and the reason`, async () => {
    using folder = new Folder();
    const socket = make(folder);
    const error = await leavesNothing(() => rejectsCode(() => DmaBufChannel.connect(folder.file()), code));
    assert.deepEqual([error.syscall, error.path], ['connect', folder.file()]);
    assert.match(error.message, reason);
    socket?.close();
  });
}

channelTest('connecting to an abstract name where nobody listens is ECONNREFUSED with the name', async () => {
  const name = abstractName();
  for (const path of [name, name.replace('@', '\0')]) {
    const error = await rejectsCode(() => DmaBufChannel.connect(path), 'ECONNREFUSED');
    assert.equal(error.path, name);
    assert.ok(!error.message.includes('\0'));
  }
});

channelTest('an error of connect() has the caller in its stack', async () => {
  async function callerOfConnect(): Promise<void> {
    await DmaBufChannel.connect(abstractName());
  }
  assert.match((await rejectsCode(callerOfConnect, 'ECONNREFUSED')).stack ?? '', /callerOfConnect/);
});

channelTest('connecting goes through links', async () => {
  using folder = new Folder();
  using server = DmaBufChannel.listen(folder.file('real'));
  symlinkSync('real', folder.file());
  using client = await DmaBufChannel.connect(folder.file());
  using channel = await server.accept();
  await client.send('x');
  assert.equal(await nextText(channel), 'x');
});

channelTest('who connects need not wait for accept() to send', async () => {
  const name = abstractName();
  using server = DmaBufChannel.listen(name);
  using client = await DmaBufChannel.connect(name);
  await client.send('early');
  using channel = await server.accept();
  assert.equal(await nextText(channel), 'early');
});

channelTest('maxMessageSize of connect() holds for its channel alone', async () => {
  const name = abstractName();
  using server = DmaBufChannel.listen(name);
  using client = await DmaBufChannel.connect(name, { maxMessageSize: 5000 });
  using channel = await server.accept();
  assert.equal(client.maxMessageSize, 5000);
  assert.notEqual(channel.maxMessageSize, 5000);
});

channelTest('a signal that has aborted already connects to nobody', async () => {
  const name = abstractName();
  using server = ForeignSocket.serve(name);
  const reason = new Error('too late');
  await rejectsWith(DmaBufChannel.connect(name, { signal: AbortSignal.abort(reason) }), reason);
  assert.equal(server.accept(), undefined);
});

// ---- a server that is slow to accept

/** A server whose queue is full. */
class Slow implements Disposable {
  readonly name: string = abstractName();
  readonly server: ForeignSocket = ForeignSocket.serve(this.name, 'seqpacket', 0);
  readonly first: ForeignSocket = ForeignSocket.connect(this.name);

  /** Accepts who is first in the queue. */
  accept(): void {
    const accepted = this.server.accept();
    assert.ok(accepted, 'nobody waits');
    accepted.close();
  }

  [Symbol.dispose](): void {
    this.first.close();
    this.server.close();
  }
}

channelTest('connect() waits while the queue is full, and then connects', async () => {
  using slow = new Slow();
  const promise = DmaBufChannel.connect(slow.name);
  const connecting = watch(promise);
  await turns(20);
  assert.equal(connecting.state, 'pending');
  slow.accept();
  using client = await promise;
  using accepted = slow.server.accept();
  accepted?.send('x');
  assert.equal(await nextText(client), 'x');
});

channelTest('several that wait for a full queue all get in', async () => {
  using slow = new Slow();
  const connecting = [1, 2, 3].map(() => DmaBufChannel.connect(slow.name));
  const accepting = setInterval(() => slow.server.accept()?.close(), 1);
  await Promise.all(connecting);
  clearInterval(accepting);
  for (const channel of await Promise.all(connecting)) channel.close();
});

channelTest('an abort ends a connect() that waits with the very reason, and nobody connects', async () => {
  using slow = new Slow();
  const controller = new AbortController();
  const reason = { my: 'reason' };
  const connecting = DmaBufChannel.connect(slow.name, { signal: controller.signal });
  await turns();
  controller.abort(reason);
  await rejectsWith(connecting, reason);
  slow.accept();
  // Others who try at the same interval come and go: the aborted call is not among them.
  using second = await DmaBufChannel.connect(slow.name);
  const waiting = DmaBufChannel.connect(slow.name);
  await turns();
  slow.accept();
  using third = await waiting;
  slow.accept();
  assert.equal(slow.server.accept(), undefined);
  assert.deepEqual([await second.receive(), await third.receive()], [undefined, undefined]);
});

channelTest('a connect() that waits too long rejects with ETIMEDOUT and the path', async () => {
  using slow = new Slow();
  const error = await rejectsCode(() => DmaBufChannel.connect(slow.name, { timeout: 25 }), 'ETIMEDOUT');
  assert.match(error.message, new RegExp(`connecting to ${slow.name}.*25 ms`));
});

channelTest('what ends a connect() that waits has the caller in its stack', async () => {
  using slow = new Slow();
  async function callerOfConnect(options: { timeout?: number }): Promise<void> {
    await DmaBufChannel.connect(slow.name, options);
  }
  const late = await rejectsCode(() => callerOfConnect({ timeout: 1 }), 'ETIMEDOUT');
  assert.match(late.stack ?? '', /callerOfConnect/);
  const connecting = callerOfConnect({});
  slow.server.close();
  const refused = await rejectsCode(() => connecting, 'ECONNREFUSED');
  assert.match(refused.stack ?? '', /callerOfConnect/);
});

channelTest(
  'a server that closes ends a connect() that waits: ECONNREFUSED with the path and the reason',
  async () => {
    using slow = new Slow();
    const connecting = DmaBufChannel.connect(slow.name);
    slow.server.close();
    const error = await rejectsCode(() => connecting, 'ECONNREFUSED');
    assert.equal(error.path, slow.name);
    assert.match(error.message, /No server listens/);
  },
);

channelTest('a connect() that waits holds no socket meanwhile', async () => {
  using slow = new Slow();
  const controller = new AbortController();
  await leavesNothing(async () => {
    const connecting = DmaBufChannel.connect(slow.name, { signal: controller.signal });
    connecting.catch(() => {});
    await turns();
  });
  controller.abort();
});

channelTest(
  'as many as net.core.somaxconn allows can wait for a server of this package',
  () =>
    withSomaxconn(2, async () => {
      const name = abstractName();
      using server = DmaBufChannel.listen(name);
      const before = openHandles().length;
      // One more than the limit fits into the queue.
      const early = [await DmaBufChannel.connect(name), await DmaBufChannel.connect(name)];
      early.push(await DmaBufChannel.connect(name));
      await rejectsCode(() => DmaBufChannel.connect(name, { timeout: 20 }), 'ETIMEDOUT');
      const late = DmaBufChannel.connect(name);
      for (let count = 0; count < 3; count++) (await server.accept()).close();
      early.push(await late);
      (await server.accept()).close();
      for (const channel of early) channel.close();
      assert.equal(openHandles().length, before);
    }),
  notRoot,
);

// ---- who it is

const users: readonly [string, number, number][] = [
  ['root', 0, 0],
  ['another user', 65534, 65533],
];
for (const [what, uid, gid] of users) {
  channelTest(
    `a server learns the process, user and group of ${what} who connects, and keeps them`,
    async () => {
      const name = abstractName();
      using server = DmaBufChannel.listen(name);
      const env = { ...process.env, DMABUF_TEST_SOCKET: name };
      const child = startProgram<null>('connects', { env, uid, gid });
      using channel = await server.accept();
      const expected = { pid: child.pid, uid, gid };
      assert.deepEqual(channel.peer, expected);
      assert.equal(await nextText(channel), 'x');
      child.goOn();
      assert.equal(await channel.receive(), undefined);
      await child.end;
      assert.deepEqual(channel.peer, expected);
      channel.close();
      assert.deepEqual(channel.peer, expected);
    },
    notRoot,
  );

  channelTest(
    `who connects learns the process, user and group of ${what} who listens`,
    async () => {
      const name = abstractName();
      const env = { ...process.env, DMABUF_TEST_SOCKET: name };
      const child = startProgram<never>('listens', { env, uid, gid });
      await child.line();
      using client = await DmaBufChannel.connect(name);
      assert.deepEqual(client.peer, { pid: child.pid, uid, gid });
      child.kill();
      await child.end;
    },
    notRoot,
  );
}

channelTest('the peer of an adopted socket is who made it', () => {
  const [one, other] = ForeignSocket.pair();
  using channel = DmaBufChannel.adopt(one.fd);
  assert.deepEqual(channel.peer, {
    pid: process.pid,
    uid: process.getuid?.(),
    gid: process.getgid?.(),
  });
  new OwnedFd(other.fd).close();
});

channelTest('connecting again and again leaves nothing', async () => {
  using folder = new Folder();
  using server = DmaBufChannel.listen(folder.file());
  await leavesNothing(async () => {
    for (let round = 0; round < 100; round++) {
      using client = await DmaBufChannel.connect(folder.file());
      using channel = await server.accept();
      await client.send('x');
      assert.equal(await nextText(channel), 'x');
    }
    await turns();
  });
});
