import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, readdirSync, writeFileSync } from 'node:fs';
import { connect as connectByNode } from 'node:net';
import { text } from 'node:stream/consumers';
import { allocateSync, DmaBufChannel, FdStream, FdStreamServer } from 'dmabuf';
import { abstractName } from '../../../support/abstract-name.js';
import { channelTest } from '../../../support/channel-test.js';
import { Folder, Pair } from '../../../support/channels.js';
import { closeOnExec, flagsOf, openNull } from '../../../support/descriptors.js';
import { turns, watch } from '../../../support/event-loop.js';
import { rejectsCode, rejectsWith, throwsCode } from '../../../support/expect.js';
import { closeEach } from '../../../support/handles.js';
import { packageRoot } from '../../../support/programs.js';
import { ForeignSocket, OwnedFd } from '../../../support/sockets.js';
import { nextBytes, nextBytesAsText } from '../../../support/streams.js';

const nonBlocking = 0o4000;

// ---- listen() and connect()

for (const [what, addressIn] of [
  ['a path', (folder: Folder) => folder.file()],
  ['an abstract name', () => abstractName()],
] as const) {
  channelTest(`who connects to ${what} gets a stream to its server`, async () => {
    using folder = new Folder();
    const address = addressIn(folder);
    using server = FdStream.listen(address);
    assert.equal(server.address, address);
    using client = await FdStream.connect(address);
    using stream = await server.accept();
    using buffer = allocateSync(4096);
    await client.send('to the server', [buffer]);
    const { data, handles } = await nextBytes(stream);
    closeEach(handles);
    assert.deepEqual([Buffer.from(data).toString(), handles.length], ['to the server', 1]);
    await stream.send('to the client');
    assert.equal(await nextBytesAsText(client), 'to the client');
    assert.deepEqual(client.peer, { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() });
    server.close();
    assert.deepEqual(readdirSync(folder.path), []);
  });
}

channelTest('connections are had in a loop, until the server is closed', async () => {
  const name = abstractName();
  using server = FdStream.listen(name);
  const clients = [await FdStream.connect(name), await FdStream.connect(name)];
  let count = 0;
  for await (const stream of server) {
    stream.destroy();
    if (++count === 2) server.close();
  }
  for (const client of clients) client.destroy();
  assert.deepEqual([count, server.closed, server.fd], [2, true, -1]);
});

channelTest("Node's own client is understood, and the options hold for accepted streams", async () => {
  using folder = new Folder();
  using server = FdStream.listen(folder.file(), { recognise: false, highWaterMark: 10 });
  const client = connectByNode(folder.file());
  using stream = await server.accept();
  assert.equal(stream.readableHighWaterMark, 10);
  client.end('from Node');
  assert.equal(await text(stream), 'from Node');
  client.destroy();
  await once(client, 'close');
});

channelTest('the file has the mode that was asked for, and a dead one is replaced', () => {
  using folder = new Folder();
  ForeignSocket.leaveStale(folder.file(), 'stream');
  using server = FdStream.listen(folder.file(), { mode: 0o640 });
  assert.equal(lstatSync(server.address).mode & 0o7777, 0o640);
  throwsCode(() => FdStream.listen(folder.file()), 'EADDRINUSE');
});

channelTest('a file in the way is EADDRINUSE, and is not touched', () => {
  using folder = new Folder();
  writeFileSync(folder.file(), 'precious');
  throwsCode(() => FdStream.listen(folder.file()), 'EADDRINUSE');
  assert.equal(lstatSync(folder.file()).size, 8);
});

channelTest('channels and streams do not connect to one another', async () => {
  const [one, other] = [abstractName(), abstractName()];
  using _channels = DmaBufChannel.listen(one);
  using _streams = FdStream.listen(other);
  for (const connecting of [() => FdStream.connect(one), () => DmaBufChannel.connect(other)]) {
    // For an abstract name, the kernel looks for a socket of the same type.
    await rejectsCode(connecting, 'ECONNREFUSED');
  }
  using folder = new Folder();
  using _atPath = DmaBufChannel.listen(folder.file());
  const error = await rejectsCode(() => FdStream.connect(folder.file()), 'EPROTOTYPE');
  assert.match(error.message, /SOCK_SEQPACKET.*FdStream one of type SOCK_STREAM/);
});

// ---- a server that is not there yet

for (const Class of [DmaBufChannel, FdStream]) {
  channelTest(`with retry, ${Class.name}.connect() waits for its server`, async () => {
    using folder = new Folder();
    ForeignSocket.leaveStale(folder.file('stale'), 'stream');
    for (const path of [folder.file(), folder.file('stale'), abstractName()]) {
      const promise: Promise<DmaBufChannel | FdStream> = Class.connect(path, { retry: true });
      const connecting = watch(promise);
      await turns();
      assert.equal(connecting.state, 'pending');
      using server = Class.listen(path);
      using _client = await promise;
      using _accepted = await server.accept();
    }
  });

  channelTest(
    `${Class.name}.connect() with retry ends with its time, its signal, and other errors`,
    async () => {
      using folder = new Folder();
      await rejectsCode(() => Class.connect(folder.file(), { retry: true, timeout: 30 }), 'ETIMEDOUT');
      const controller = new AbortController();
      const reason = new Error('enough');
      const connecting = Class.connect(folder.file(), { retry: true, signal: controller.signal });
      await turns();
      controller.abort(reason);
      await rejectsWith(connecting, reason);
      writeFileSync(folder.file('file'), '');
      await rejectsCode(() => Class.connect(folder.file('file/socket'), { retry: true }), 'ENOTDIR');
      await rejectsCode(() => Class.connect(folder.file()), 'ENOENT');
    },
  );
}

// ---- adopt()

channelTest('an adopted stream becomes close-on-exec, and stays as blocking as it was', async () => {
  for (const flags of [0, nonBlocking]) {
    const [one, other] = ForeignSocket.pair('stream', flags);
    using stream = FdStream.adopt(one.fd);
    assert.equal(flagsOf(stream.fd) & (nonBlocking | closeOnExec), flags | closeOnExec);
    const received = nextBytesAsText(stream);
    await turns();
    other.send('x');
    assert.equal(await received, 'x');
    assert.equal(flagsOf(stream.fd) & nonBlocking, flags);
    other.close();
  }
});

interface Refused {
  what: string;
  code: string;
  make(): OwnedFd;
}

const refused: readonly Refused[] = [
  { what: 'a file', code: 'ENOTSOCK', make: () => new OwnedFd(openNull()) },
  { what: 'a seqpacket socket', code: 'EPROTOTYPE', make: () => ForeignSocket.create('seqpacket') },
  { what: 'a datagram socket', code: 'EPROTOTYPE', make: () => ForeignSocket.create('datagram') },
  { what: 'a TCP socket', code: 'EPROTOTYPE', make: () => ForeignSocket.internet() },
];

for (const { what, code, make } of refused) {
  channelTest(`adopting ${what} is ${code}, and leaves it open`, () => {
    using file = make();
    for (const Class of [FdStream, FdStreamServer]) throwsCode(() => Class.adopt(file.fd), code);
    flagsOf(file.fd);
  });
}

channelTest('what is not connected is no stream, and what does not listen is no server', () => {
  using unconnected = ForeignSocket.create('stream');
  throwsCode(() => FdStream.adopt(unconnected.fd), 'ENOTCONN');
  assert.match(throwsCode(() => FdStreamServer.adopt(unconnected.fd), 'EINVAL').message, /does not listen/);
});

channelTest('an adopted server accepts, and neither its file nor its flags are touched', async () => {
  using folder = new Folder();
  const listener = ForeignSocket.serve(folder.file(), 'stream');
  const server = FdStreamServer.adopt(listener.release());
  assert.equal(server.address, folder.file());
  const accepting = server.accept();
  await turns();
  using client = await FdStream.connect(folder.file());
  using stream = await accepting;
  await client.send('x');
  assert.equal(await nextBytesAsText(stream), 'x');
  server.close();
  assert.equal(existsSync(folder.file()), true);
});

channelTest("a process gets systemd's sockets as descriptors from 3 on, which block", async () => {
  const name = abstractName();
  const script = `
    import { FdStreamServer } from 'dmabuf';
    const server = FdStreamServer.adopt(3);
    const stream = await server.accept();
    await stream.send(server.address);
    stream.end();
    stream.resume();
    server.close();
  `;
  // Python makes blocking sockets, as systemd does.
  const starter = `
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind('\\0' + sys.argv[1][1:])
listener.listen()
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ['LISTEN_FDS'] = '1'
os.execvp(sys.argv[2], sys.argv[2:])
`;
  const command = [process.execPath, '--input-type=module', '-e', script];
  const child = spawn('python3', ['-c', starter, name, ...command], { cwd: packageRoot, stdio: 'inherit' });
  const exit = once(child, 'close');
  using client = await FdStream.connect(name, { retry: true });
  assert.equal(await text(client), name);
  client.destroy();
  assert.deepEqual(await exit, [0, null]);
});

channelTest('a server that is closed does not shut down the socket that others listen on, too', async () => {
  const name = abstractName();
  const listener = ForeignSocket.serve(name, 'stream');
  using pair = new Pair();
  await pair.here.send('the listener', [listener.fd]);
  const [copy] = (await pair.there.receive())?.handles ?? [];
  FdStreamServer.adopt(copy as number).close();
  using client = await FdStream.connect(name);
  const accepted = listener.accept();
  assert.ok(accepted);
  accepted.send('still there');
  assert.equal(await nextBytesAsText(client), 'still there');
  accepted.close();
  listener.close();
});
