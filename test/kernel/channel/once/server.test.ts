import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import { Worker } from 'node:worker_threads';
import {
  allocateSync,
  closeHandles,
  type DmaBuf,
  DmaBufChannel,
  type DmaBufServer,
  openHandles,
} from 'dmabuf';
import { abstractName } from '../../../support/abstract-name.js';
import { channelTest } from '../../../support/channel-test.js';
import { Folder } from '../../../support/channels.js';
import { closeOnExec, flagsOf, openFds, reuse } from '../../../support/descriptors.js';
import { collectUntil, turns, until, watch } from '../../../support/event-loop.js';
import { rejectsCode, rejectsWith, throwsCode } from '../../../support/expect.js';
import type { RacerData } from '../../../support/listen-racer.js';
import { next, nextText } from '../../../support/messages.js';
import { notRoot } from '../../../support/needs.js';
import type { UnprivilegedServerReport } from '../../../support/programs/unprivileged-server.js';
import { runProgram, startProgram } from '../../../support/programs.js';
import { ForeignSocket, type SocketKind } from '../../../support/sockets.js';

/** Connects and accepts, and closes both: the server works, and is the one at that path. */
async function assertServes(server: DmaBufServer, path: string = server.path): Promise<void> {
  using client = await DmaBufChannel.connect(path);
  using channel = await server.accept();
  await client.send('x');
  assert.equal(await nextText(channel), 'x');
}

function withUmask<T>(mask: number, fn: () => T): T {
  const before = process.umask(mask);
  try {
    return fn();
  } finally {
    process.umask(before);
  }
}

const modeOf = (path: string): number => lstatSync(path).mode & 0o7777;

// ---- where

channelTest('who connects to the path of a server gets a channel to it', async () => {
  using folder = new Folder();
  using server = DmaBufChannel.listen(folder.file());
  using client = await DmaBufChannel.connect(folder.file());
  using channel = await server.accept();
  using buffer = allocateSync(4096);
  await client.send('to the server', [buffer]);
  const { data, handles } = await next(channel);
  assert.equal(Buffer.from(data).toString(), 'to the server');
  assert.equal((handles[0] as DmaBuf).inode, buffer.inode);
  closeHandles(handles);
  await channel.send('to the client');
  assert.equal(await nextText(client), 'to the client');
});

/** Listens at an abstract name that a server had whom a thread may still be closing. */
async function listenAgain(name: string): Promise<DmaBufServer> {
  let server: DmaBufServer | undefined;
  await until(() => {
    try {
      server = DmaBufChannel.listen(name);
    } catch (error) {
      if ((error as { code?: string }).code !== 'EADDRINUSE') throw error;
    }
    return server !== undefined;
  });
  return server as unknown as DmaBufServer;
}

channelTest('an abstract name is the same with @ and with NUL', async () => {
  const name = abstractName();
  for (const [listening, connecting] of [
    [name, name.replace('@', '\0')],
    [name.replace('@', '\0'), name],
  ] as const) {
    using server = await listenAgain(listening);
    assert.equal(server.path, listening);
    await assertServes(server, connecting);
  }
});

channelTest('an abstract name leaves no file, and is free again after close()', async () => {
  const name = abstractName();
  for (let round = 0; round < 2; round++) {
    using server = await listenAgain(name);
    await assertServes(server);
    assert.equal(existsSync(name), false);
  }
});

const longest = 'x'.repeat(107);
const addresses: readonly [string, (folder: Folder) => string][] = [
  ['a path of 107 bytes', (folder) => folder.file('x'.repeat(107 - folder.path.length - 1))],
  ['a path of 107 bytes in UTF-8', (folder) => utf8Path(folder)],
  ['an abstract name of 107 bytes', () => `@${process.pid}${longest}`.slice(0, 108)],
  ['a path with spaces and a line end', (folder) => folder.file('a socket\nof mine')],
  ['a path that begins with @ after ./', (folder) => `${relative('.', folder.path)}/@socket`],
  ['a path with ..', (folder) => `${folder.path}/../${folder.path.split('/').at(-1)}/socket`],
];

function utf8Path(folder: Folder): string {
  const room = 107 - folder.path.length - 1;
  return folder.file('é'.repeat(room / 2) + (room % 2 === 1 ? 'x' : ''));
}

for (const [what, make] of addresses) {
  channelTest(`${what} works`, async () => {
    using folder = new Folder();
    const path = make(folder);
    using server = DmaBufChannel.listen(path);
    await assertServes(server);
    server.close();
    assert.deepEqual(readdirSync(folder.path), []);
  });

  channelTest(`${what} can be listened at again after a server died there`, async () => {
    using folder = new Folder();
    const path = make(folder);
    ForeignSocket.leaveStale(path);
    using server = DmaBufChannel.listen(path);
    await assertServes(server);
    server.close();
    assert.deepEqual(readdirSync(folder.path), []);
  });
}

channelTest('a relative path is relative to the working directory of listen()', async () => {
  using folder = new Folder();
  using elsewhere = new Folder();
  const before = process.cwd();
  process.chdir(folder.path);
  try {
    using server = DmaBufChannel.listen('socket');
    assert.equal(server.path, 'socket');
    await assertServes(server);
    process.chdir(elsewhere.path);
    await assertServes(server, folder.file());
    writeFileSync(elsewhere.file(), 'no socket');
    server.close();
    assert.deepEqual([readdirSync(folder.path), readdirSync(elsewhere.path)], [[], ['socket']]);
  } finally {
    process.chdir(before);
  }
});

channelTest('a server is close-on-exec', () => {
  using server = DmaBufChannel.listen(abstractName());
  assert.ok((flagsOf(server.fd) & closeOnExec) !== 0);
});

const impossible: readonly [string, (folder: Folder) => string, string, RegExp][] = [
  ['a folder that does not exist', (folder) => folder.file('no/socket'), 'ENOENT', /folder does not exist/],
  ['a folder that is a file', (folder) => folder.file('file/socket'), 'ENOTDIR', /ENOTDIR/],
];
for (const [what, make, code, reason] of impossible) {
  channelTest(`listening in ${what} is ${code} with the path`, () => {
    using folder = new Folder();
    writeFileSync(folder.file('file'), '');
    const path = make(folder);
    const error = throwsCode(() => DmaBufChannel.listen(path), code);
    assert.deepEqual([error.syscall, error.path], ['bind', path]);
    assert.match(error.message, reason);
  });
}

// ---- permissions

for (const umask of [0, 0o022, 0o077, 0o777]) {
  for (const mode of [undefined, 0, 0o400, 0o600, 0o660, 0o666, 0o777]) {
    const wanted = mode ?? 0o600;
    const said = mode === undefined ? 'no mode' : `mode ${mode.toString(8)}`;
    channelTest(`with umask ${umask.toString(8)}, ${said} gives ${wanted.toString(8)} exactly`, () => {
      using folder = new Folder();
      using server = withUmask(umask, () =>
        DmaBufChannel.listen(folder.file(), mode === undefined ? {} : { mode }),
      );
      assert.equal(modeOf(server.path), wanted);
    });
  }
}

channelTest('the file never has more rights than its mode, be the umask 0', async () => {
  using folder = new Folder();
  const path = folder.file();
  const shared = new Int32Array(new SharedArrayBuffer(12));
  const worker = new Worker(new URL('../../../support/mode-watcher.js', import.meta.url), {
    workerData: { path, shared },
  });
  await once(worker, 'message');
  withUmask(0, () => {
    for (let round = 0; round < 200 || Atomics.load(shared, 1) < 100; round++) {
      DmaBufChannel.listen(path, { mode: 0o640 }).close();
    }
  });
  Atomics.store(shared, 0, 1);
  await once(worker, 'exit');
  assert.equal((shared[2] as number) & ~0o640, 0, `it had ${(shared[2] as number).toString(8)}`);
});

channelTest('listen() leaves the umask as it was', () => {
  using folder = new Folder();
  withUmask(0o027, () => {
    DmaBufChannel.listen(folder.file(), { mode: 0o666 }).close();
    assert.equal(process.umask(), 0o027);
  });
});

// ---- what is in the way

const kinds: readonly SocketKind[] = ['seqpacket', 'stream', 'datagram'];

for (const kind of kinds) {
  channelTest(`a ${kind} server that lives is EADDRINUSE, and does not notice`, () => {
    using folder = new Folder();
    const path = folder.file();
    using live = ForeignSocket.serve(path, kind);
    const { ino } = lstatSync(path);
    const error = throwsCode(() => DmaBufChannel.listen(path), 'EADDRINUSE');
    assert.deepEqual([error.errno, error.syscall, error.path], [-98, 'bind', path]);
    assert.match(error.message, /listens there/);
    assert.equal(live.accept(), undefined);
    assert.deepEqual([lstatSync(path).ino, readdirSync(folder.path)], [ino, ['socket']]);
    ForeignSocket.connect(path, kind).close();
  });

  channelTest(`the file of a ${kind} server that is dead is replaced`, async () => {
    using folder = new Folder();
    ForeignSocket.leaveStale(folder.file(), kind);
    using server = DmaBufChannel.listen(folder.file());
    await assertServes(server);
    assert.deepEqual(readdirSync(folder.path), ['socket']);
    assert.equal(modeOf(folder.file()), 0o600);
  });
}

channelTest('a datagram server that talks to another one alone is EADDRINUSE', () => {
  using folder = new Folder();
  using partner = ForeignSocket.serve(folder.file('partner'), 'datagram');
  using live = ForeignSocket.serve(folder.file(), 'datagram');
  live.connect(folder.file('partner'));
  throwsCode(() => DmaBufChannel.listen(folder.file()), 'EADDRINUSE');
  assert.deepEqual(readdirSync(folder.path).sort(), ['partner', 'socket']);
  partner.close();
});

channelTest('a socket that is bound and does not listen yet is EADDRINUSE', () => {
  using folder = new Folder();
  using early = ForeignSocket.create('seqpacket');
  early.bind(folder.file());
  throwsCode(() => DmaBufChannel.listen(folder.file()), 'EADDRINUSE');
});

channelTest('a server whose queue is full is EADDRINUSE', () => {
  using folder = new Folder();
  using live = ForeignSocket.serve(folder.file(), 'seqpacket', 0);
  using client = ForeignSocket.connect(folder.file());
  throwsCode(() => DmaBufChannel.listen(folder.file()), 'EADDRINUSE');
  client.close();
  live.close();
});

channelTest('another server of the same process is EADDRINUSE, and goes on', async () => {
  using folder = new Folder();
  using server = DmaBufChannel.listen(folder.file());
  const accepting = watch(server.accept());
  throwsCode(() => DmaBufChannel.listen(folder.file()), 'EADDRINUSE');
  await turns();
  assert.equal(accepting.state, 'pending');
  using client = await DmaBufChannel.connect(folder.file());
  await until(() => accepting.state === 'fulfilled');
  (accepting.value as DmaBufChannel).close();
  client.close();
});

channelTest('an abstract name in use is EADDRINUSE, with the name', () => {
  const name = abstractName();
  using _live = ForeignSocket.serve(name);
  for (const path of [name, name.replace('@', '\0')]) {
    const error = throwsCode(() => DmaBufChannel.listen(path), 'EADDRINUSE');
    assert.equal(error.path, name);
    assert.match(error.message, /listens there/);
  }
});

interface Obstacle {
  what: string;
  make(path: string, folder: Folder): void;
}

const obstacles: readonly Obstacle[] = [
  { what: 'a regular file', make: (path) => writeFileSync(path, 'precious') },
  { what: 'an empty file', make: (path) => writeFileSync(path, '') },
  { what: 'a directory', make: (path) => mkdirSync(path) },
  { what: 'a pipe', make: (path) => execFileSync('mkfifo', [path]) },
  { what: 'a link to nothing', make: (path, folder) => symlinkSync(folder.file('nothing'), path) },
  {
    what: 'a link to a file',
    make(path, folder) {
      writeFileSync(folder.file('target'), 'precious');
      symlinkSync('target', path);
    },
  },
  {
    what: "a link to a dead server's file",
    make(path, folder) {
      ForeignSocket.leaveStale(folder.file('target'));
      symlinkSync('target', path);
    },
  },
];

/** Everything of a folder that could change. */
function snapshot(folder: Folder): unknown {
  return readdirSync(folder.path)
    .sort()
    .map((name) => {
      const path = folder.file(name);
      const { ino, mode, mtimeMs, size } = lstatSync(path);
      const text = lstatSync(path).isSymbolicLink() ? readlinkSync(path) : undefined;
      const data = lstatSync(path).isFile() ? readFileSync(path, 'utf8') : undefined;
      return { name, ino, mode, mtimeMs, size, text, data };
    });
}

for (const { what, make } of obstacles) {
  channelTest(`${what} in the way is EADDRINUSE, and is not touched`, () => {
    using folder = new Folder();
    make(folder.file(), folder);
    const before = snapshot(folder);
    const error = throwsCode(() => DmaBufChannel.listen(folder.file()), 'EADDRINUSE');
    assert.deepEqual([error.syscall, error.path], ['bind', folder.file()]);
    assert.match(error.message, /no socket/);
    assert.deepEqual(snapshot(folder), before);
  });
}

channelTest('the file of a server that was killed is replaced', async () => {
  using folder = new Folder();
  const env = { ...process.env, DMABUF_TEST_SOCKET: folder.file() };
  const victim = startProgram<never>('listens', { env });
  await victim.line();
  throwsCode(() => DmaBufChannel.listen(folder.file()), 'EADDRINUSE');
  victim.kill();
  await victim.end;
  assert.ok(existsSync(folder.file()));
  using server = DmaBufChannel.listen(folder.file());
  await assertServes(server);
});

for (const [what, length] of [
  ['a path', 0],
  ['a path as long as paths may be', 107],
] as const) {
  channelTest(
    `of servers that race for a dead one's file at ${what} exactly one wins, and is reachable`,
    async () => {
      using folder = new Folder();
      const rounds = 20;
      const racers = 3;
      const paths = Array.from({ length: rounds }, (_, round) => {
        const path = folder.file(`socket-${round}`);
        return path.padEnd(length, 'x');
      });
      for (const path of paths) ForeignSocket.leaveStale(path);
      const shared = new Int32Array(new SharedArrayBuffer(8));
      const outcomes = await Promise.all(
        Array.from({ length: racers }, async () => {
          const workerData: RacerData = { shared, racers, paths };
          const worker = new Worker(new URL('../../../support/listen-racer.js', import.meta.url), {
            workerData,
          });
          const exit = once(worker, 'exit');
          const [outcomesOfOne] = (await once(worker, 'message')) as [string[]];
          await exit;
          return outcomesOfOne;
        }),
      );
      for (let round = 0; round < rounds; round++) {
        const all = outcomes.map((outcomesOfOne) => outcomesOfOne[round]).sort();
        assert.deepEqual(all, ['lost', 'lost', 'won'], `round ${round}`);
      }
      assert.deepEqual(readdirSync(folder.path), []);
    },
  );
}

/** A process of the user's that has a folder locked (flock(2)). */
async function lockBy(user: number, folder: string): Promise<ChildProcess> {
  const command = `exec setpriv --reuid ${user} --regid ${user} --clear-groups flock ${folder} sh -c 'echo locked; exec cat'`;
  const child = spawn('sh', ['-c', command], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout as NodeJS.ReadableStream, 'data');
  return child;
}

async function unlock(child: ChildProcess): Promise<void> {
  const exit = once(child, 'close');
  child.stdin?.end();
  await exit;
}

for (const [who, user] of [
  ['another user', 65534],
  ['another process of this user', process.getuid?.() ?? 0],
] as const) {
  channelTest(
    `a dead server's file is replaced, though ${who} keeps its folder locked`,
    async () => {
      using folder = new Folder();
      chmodSync(folder.path, 0o755);
      ForeignSocket.leaveStale(folder.file());
      const locker = await lockBy(user, folder.path);
      try {
        using server = DmaBufChannel.listen(folder.file());
        await assertServes(server);
      } finally {
        await unlock(locker);
      }
    },
    notRoot,
  );
}

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

// ---- an ordinary user

const folderOfRoot = notRoot ? (undefined as never) : new Folder();

function runUnprivileged(): UnprivilegedServerReport {
  chmodSync(folderOfRoot.path, 0o755);
  using _live = ForeignSocket.serve(folderOfRoot.file('live'));
  ForeignSocket.leaveStale(folderOfRoot.file('stale'));
  ForeignSocket.leaveStale(folderOfRoot.file('open-stale'));
  for (const name of ['live', 'stale']) chmodSync(folderOfRoot.file(name), 0o600);
  chmodSync(folderOfRoot.file('open-stale'), 0o666);
  const env = { ...process.env, DMABUF_TEST_FOLDER: folderOfRoot.path };
  try {
    return runProgram('unprivileged-server', { uid: 65534, gid: 65534, env });
  } finally {
    folderOfRoot[Symbol.dispose]();
  }
}

const user: UnprivilegedServerReport = notRoot ? (undefined as never) : runUnprivileged();

channelTest(
  'connecting to a socket that may not be written is EACCES, with the path and the cure',
  () => {
    const { name, code, path, message, syscall } = user.connectLive;
    assert.deepEqual(
      [name, code, syscall, path],
      ['DmaBufError', 'EACCES', 'connect', join(folderOfRoot.path, 'live')],
    );
    assert.match(message, /option mode/);
  },
  notRoot,
);

channelTest(
  'listening in a folder that may not be written is EACCES, with the path and the reason',
  () => {
    const { name, code, path, message, syscall } = user.listenInFolder;
    assert.deepEqual(
      [name, code, syscall, path],
      ['DmaBufError', 'EACCES', 'bind', join(folderOfRoot.path, 'new')],
    );
    assert.match(message, /folder may not be written/);
  },
  notRoot,
);

for (const what of ['listenAtLive', 'listenAtStale'] as const) {
  channelTest(
    `a socket of another user is EADDRINUSE, be it dead or not: ${what}`,
    () => {
      const { name, code, message } = user[what];
      assert.deepEqual([name, code], ['DmaBufError', 'EADDRINUSE']);
      assert.match(message, /Somebody else's socket/);
    },
    notRoot,
  );
}

channelTest(
  "a dead server's file that may not be removed is an error of this package, with the path",
  () => {
    const { name, code, path } = user.listenAtOpenStale;
    assert.deepEqual([name, path], ['DmaBufError', join(folderOfRoot.path, 'open-stale')]);
    assert.match(code ?? '', /^(EACCES|EPERM|EADDRINUSE)$/);
  },
  notRoot,
);

channelTest(
  "a user's own dead server is replaced whatever its mode was",
  () => assert.deepEqual(user.ownStale, { '0': 'listens', '400': 'listens', '600': 'listens' }),
  notRoot,
);

channelTest(
  'a daemon that was root once gives its socket the mode that it was asked for',
  () => assert.equal(runProgram<number>('drops-root'), 0o660),
  notRoot,
);
