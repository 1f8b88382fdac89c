import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, readdirSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { DmaBufChannel, openHandles } from 'dmabuf';
import { abstractName } from '../../../support/abstract-name.js';
import { channelTest } from '../../../support/channel-test.js';
import { Folder } from '../../../support/channels.js';
import { closeOnExec, flagsOf, openFds, reuse } from '../../../support/descriptors.js';
import { collectUntil, turns, until, watch } from '../../../support/event-loop.js';
import { rejectsCode, rejectsWith, throwsCode } from '../../../support/expect.js';
import { nextText } from '../../../support/messages.js';
import { assertServes, snapshot } from '../../../support/servers.js';
import { ForeignSocket } from '../../../support/sockets.js';

// ---- close

channelTest('close() removes the file', async () => {
  using folder = new Folder();
  const server = DmaBufChannel.listen(folder.file());
  const { fd } = server;
  assert.ok(lstatSync(folder.file()).isSocket());
  server.close();
  assert.deepEqual([server.closed, server.fd], [true, -1]);
  assert.deepEqual(readdirSync(folder.path), []);
  await until(() => !openFds().has(fd)); // by a thread, since the number was told
  server.close();
  server[Symbol.dispose]();
});

const successors: readonly [string, (path: string) => Disposable | undefined][] = [
  ['a regular file', (path) => writeFileSync(path, 'precious') as undefined],
  ["another server's socket", (path) => ForeignSocket.serve(path)],
  ["a dead server's file", (path) => ForeignSocket.leaveStale(path) as undefined],
  ['a directory', (path) => mkdirSync(path) as undefined],
];

for (const [what, make] of successors) {
  channelTest(`close() leaves ${what} that took the place of the file`, () => {
    using folder = new Folder();
    const server = DmaBufChannel.listen(folder.file());
    unlinkSync(folder.file());
    using _successor = make(folder.file());
    const before = snapshot(folder);
    server.close();
    assert.deepEqual(snapshot(folder), before);
  });
}

channelTest('close() is quiet when the file or its folder is gone', () => {
  for (const gone of ['file', 'folder'] as const) {
    using folder = new Folder();
    mkdirSync(folder.file('inner'));
    const path = folder.file('inner/socket');
    const server = DmaBufChannel.listen(path);
    if (gone === 'file') unlinkSync(path);
    else rmSync(folder.file('inner'), { recursive: true });
    server.close();
    assert.equal(server.closed, true);
  }
});

channelTest('after close() nobody listens there: ENOENT', async () => {
  using folder = new Folder();
  DmaBufChannel.listen(folder.file()).close();
  await rejectsCode(() => DmaBufChannel.connect(folder.file()), 'ENOENT');
});

channelTest('close() rejects every accept() that waits', async () => {
  const server = DmaBufChannel.listen(abstractName());
  const accepting = Promise.allSettled([server.accept(), server.accept()]);
  await turns();
  server.close();
  for (const outcome of await accepting) {
    assert.equal((outcome as PromiseRejectedResult).reason.code, 'ERR_DMABUF_CLOSED');
  }
  await rejectsCode(() => server.accept(), 'ERR_DMABUF_CLOSED');
});

channelTest('channels that were accepted survive the server', async () => {
  const name = abstractName();
  const server = DmaBufChannel.listen(name);
  using client = await DmaBufChannel.connect(name);
  using channel = await server.accept();
  server.close();
  await client.send('x');
  assert.equal(await nextText(channel), 'x');
});

channelTest('who was not accepted when the server closes sees the end', async () => {
  const name = abstractName();
  const server = DmaBufChannel.listen(name);
  using client = await DmaBufChannel.connect(name);
  const receiving = client.receive();
  await client.send('never read');
  server.close();
  assert.equal(await receiving, undefined);
  await rejectsCode(() => client.send('x'), 'EPIPE');
});

channelTest('using closes a server, and removes its file', () => {
  using folder = new Folder();
  {
    using _server = DmaBufChannel.listen(folder.file());
  }
  assert.deepEqual(readdirSync(folder.path), []);
});

channelTest('a server that nobody refers to is closed when it is collected', async () => {
  const name = abstractName();
  const warnings: string[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning.message);
  process.on('warning', onWarning);
  (() => {
    DmaBufChannel.listen(name);
  })();
  await collectUntil(() => !openHandles().some(({ type }) => type === 'DmaBufServer'));
  await rejectsCode(() => DmaBufChannel.connect(name), 'ECONNREFUSED');
  await turns();
  process.off('warning', onWarning);
  assert.match(warnings.join(), /A DmaBufServer was garbage-collected without close\(\)/);
});

channelTest('a server with an accept() that waits is not collected', async () => {
  const name = abstractName();
  const controller = new AbortController();
  const accepting = (() => DmaBufChannel.listen(name).accept({ signal: controller.signal }))();
  for (let round = 0; round < 10; round++) await collectUntil(() => true);
  using client = await DmaBufChannel.connect(name);
  using channel = await accepting;
  await client.send('x');
  assert.equal(await nextText(channel), 'x');
  const opened = openHandles().length;
  await collectUntil(() => openHandles().length < opened);
});

// ---- accept

channelTest('accept() waits for a connection, and the event loop turns meanwhile', async () => {
  const name = abstractName();
  using server = DmaBufChannel.listen(name);
  const accepting = watch(server.accept());
  await turns(20);
  assert.equal(accepting.state, 'pending');
  using client = await DmaBufChannel.connect(name);
  await until(() => accepting.state === 'fulfilled');
  using channel = accepting.value as DmaBufChannel;
  await client.send('x');
  assert.equal(await nextText(channel), 'x');
});

channelTest('connections are accepted in their order, by calls in their order', async () => {
  const name = abstractName();
  using server = DmaBufChannel.listen(name);
  const accepting = [server.accept(), server.accept()];
  const clients: DmaBufChannel[] = [];
  for (const text of ['one', 'two', 'three', 'four']) {
    const client = await DmaBufChannel.connect(name);
    await client.send(text);
    clients.push(client);
  }
  accepting.push(server.accept(), server.accept());
  const channels = await Promise.all(accepting);
  const texts = await Promise.all(channels.map(nextText));
  assert.deepEqual(texts, ['one', 'two', 'three', 'four']);
  for (const channel of [...channels, ...clients]) channel.close();
});

channelTest('an accepted channel is close-on-exec and blocking', async () => {
  const name = abstractName();
  using server = DmaBufChannel.listen(name);
  using client = await DmaBufChannel.connect(name);
  using channel = await server.accept();
  for (const { fd } of [client, channel]) {
    assert.deepEqual([flagsOf(fd) & closeOnExec, flagsOf(fd) & 0o4000], [closeOnExec, 0]);
  }
});

channelTest('maxMessageSize of the server holds for the channels that it accepts', async () => {
  const name = abstractName();
  using server = DmaBufChannel.listen(name, { maxMessageSize: 5000 });
  using client = await DmaBufChannel.connect(name);
  using channel = await server.accept();
  assert.equal(channel.maxMessageSize, 5000);
  assert.notEqual(client.maxMessageSize, 5000);
});

channelTest(
  'an abort ends an accept() that waits with the very reason, and loses no connection',
  async () => {
    const name = abstractName();
    using server = DmaBufChannel.listen(name);
    const controller = new AbortController();
    const reason = { my: 'reason' };
    const accepting = server.accept({ signal: controller.signal });
    controller.abort(reason);
    await rejectsWith(accepting, reason);
    await assertServes(server);
  },
);

channelTest('an accept() that waits too long rejects with ETIMEDOUT, and loses no connection', async () => {
  const name = abstractName();
  using server = DmaBufChannel.listen(name);
  const error = await rejectsCode(() => server.accept({ timeout: 5 }), 'ETIMEDOUT');
  assert.match(error.message, /waiting for a connection.*5 ms/);
  await assertServes(server);
});

channelTest('a signal that has aborted already takes no connection', async () => {
  const name = abstractName();
  using server = DmaBufChannel.listen(name);
  using client = await DmaBufChannel.connect(name);
  await rejectsWith(server.accept({ signal: AbortSignal.abort('no') }), 'no');
  using channel = await server.accept();
  await client.send('x');
  assert.equal(await nextText(channel), 'x');
});

channelTest('who connected, sent and went before it was accepted is heard', async () => {
  const name = abstractName();
  using server = DmaBufChannel.listen(name);
  const client = await DmaBufChannel.connect(name);
  await client.send('x');
  const { pid } = client.peer;
  client.close();
  using channel = await server.accept();
  assert.equal(channel.peer.pid, pid);
  assert.equal(await nextText(channel), 'x');
  assert.equal(await channel.receive(), undefined);
});

channelTest('an iteration gives every connection, and ends on close()', async () => {
  const name = abstractName();
  const server = DmaBufChannel.listen(name);
  const accepted = (async () => {
    const channels: DmaBufChannel[] = [];
    for await (const channel of server) channels.push(channel);
    return channels;
  })();
  const clients = [await DmaBufChannel.connect(name), await DmaBufChannel.connect(name)];
  await turns();
  server.close();
  const channels = await accepted;
  assert.equal(channels.length, 2);
  for (const channel of [...channels, ...clients]) channel.close();
});

channelTest('leaving the loop leaves the server open', async () => {
  const name = abstractName();
  using server = DmaBufChannel.listen(name);
  using client = await DmaBufChannel.connect(name);
  for await (const channel of server) {
    channel.close();
    break;
  }
  client.close();
  assert.equal(server.closed, false);
  await assertServes(server);
});

channelTest('iterating a closed server throws', () => {
  const server = DmaBufChannel.listen(abstractName());
  server.close();
  throwsCode(() => server[Symbol.asyncIterator](), 'ERR_DMABUF_CLOSED');
});

channelTest('a stranger of another kind cannot connect to a server', () => {
  using folder = new Folder();
  using _server = DmaBufChannel.listen(folder.file());
  for (const kind of ['stream', 'datagram'] as const) {
    assert.throws(() => ForeignSocket.connect(folder.file(), kind));
  }
});

channelTest(
  'a server whose number is now another file says ERR_DMABUF_STALE_FD, and leaves that file alone',
  async () => {
    using folder = new Folder();
    const server = DmaBufChannel.listen(folder.file());
    const { fd } = server;
    reuse(fd, () => ForeignSocket.create('seqpacket').fd);
    using _stranger = new ForeignSocket(fd);
    await rejectsCode(() => server.accept(), 'ERR_DMABUF_STALE_FD');
    server.close();
    assert.ok(openFds().has(fd));
  },
);
