import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { relative } from 'node:path';
import { Worker } from 'node:worker_threads';
import { allocateSync, closeHandles, type DmaBuf, DmaBufChannel, type DmaBufServer } from 'dmabuf';
import { abstractName } from '../../../support/abstract-name.js';
import { channelTest } from '../../../support/channel-test.js';
import { Folder } from '../../../support/channels.js';
import { closeOnExec, flagsOf } from '../../../support/descriptors.js';
import { turns, until, watch } from '../../../support/event-loop.js';
import { throwsCode } from '../../../support/expect.js';
import type { RacerData } from '../../../support/listen-racer.js';
import { next, nextText } from '../../../support/messages.js';
import { notRoot } from '../../../support/needs.js';
import { startProgram } from '../../../support/programs.js';
import { assertServes, snapshot } from '../../../support/servers.js';
import { ForeignSocket, type SocketKind } from '../../../support/sockets.js';

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

for (const { what, make } of obstacles) {
  channelTest(`${what} in the way is EADDRINUSE, and is not touched`, () => {
    using folder = new Folder();
    make(folder.file(), folder);
    const before = snapshot(folder);
    const error = throwsCode(() => DmaBufChannel.listen(folder.file()), 'EADDRINUSE');
    assert.deepEqual([error.syscall, error.path], ['bind', folder.file()]);
    assert.match(error.message, /not a socket/);
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
async function lockBy(uid: number, folder: string): Promise<ChildProcess> {
  const command = `exec setpriv --reuid ${uid} --regid ${uid} --clear-groups flock ${folder} sh -c 'echo locked; exec cat'`;
  const child = spawn('sh', ['-c', command], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout as NodeJS.ReadableStream, 'data');
  return child;
}

async function unlock(child: ChildProcess): Promise<void> {
  const exit = once(child, 'close');
  child.stdin?.end();
  await exit;
}

for (const [who, uid] of [
  ['another user', 65534],
  ['another process of this user', process.getuid?.() ?? 0],
] as const) {
  channelTest(
    `a dead server's file is replaced, though ${who} keeps its folder locked`,
    async () => {
      using folder = new Folder();
      chmodSync(folder.path, 0o755);
      ForeignSocket.leaveStale(folder.file());
      const locker = await lockBy(uid, folder.path);
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
