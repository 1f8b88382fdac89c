// What others have sent is closed and looked at without the event loop standing still: descriptors whose close(2) waits for
// seconds, or for ever. The programs run in processes of their own, since what goes wrong here cannot be ended.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { allocateSync, closeHandles, DmaBufChannel, type Sendable } from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import {
  checkPause,
  endAll,
  mostPause,
  pairs,
  start,
  startCloser,
  withSilentFiles,
} from '../../../support/closing.js';
import { compiled } from '../../../support/compiled.js';
import { threadNames } from '../../../support/descriptors.js';
import { rejectsCode } from '../../../support/expect.js';
import { kernelTest } from '../../../support/kernel-test.js';
import { nextText } from '../../../support/messages.js';
import { MountPoint } from '../../../support/mount-point.js';
import { notRoot } from '../../../support/needs.js';
import { Peer, patience, programFile } from '../../../support/peers.js';
import { packageRoot, runProgram } from '../../../support/programs.js';

// ---------- TCP sockets that linger

for (const [how, bytes] of [
  ['nothing', 1],
  ['refused', 10_001],
  ['queue', 1],
  ['numbers', 1],
] as const) {
  for (const count of [1, 64]) {
    channelTest(`sockets that linger, of ${count} peers (${how}), hold nothing up`, async (t) => {
      const [here, there] = pairs(count);
      const lingerer = start(compiled('lingerer'), [`${count}`], there);
      const program = startCloser('closes', how, here);
      for (const channel of [...here, ...there]) channel.close();
      try {
        await program.next();
        lingerer.stdin?.write(`send ${bytes}\n`);
        await once(lingerer.stdout as NodeJS.ReadableStream, 'data');
        program.child.stdin?.write('go\n');
        checkPause(t, await program.next());
        const names = threadNames(program.child.pid as number);
        assert.ok(
          how === 'nothing' || names.includes('dmabuf-close'),
          `what waits for the socket tells its purpose: ${names}`,
        );
      } finally {
        await endAll(lingerer, program.child);
      }
    });
  }
}

channelTest(
  'a server that closes with a lingering socket in an unaccepted connection holds nothing up',
  async (t) => {
    const lingerer = start(compiled('lingerer'), ['0'], []);
    const program = startCloser('closes', 'server', []);
    try {
      await program.next();
      lingerer.stdin?.write('connect /tmp/dmabuf-test-closes\n');
      await once(lingerer.stdout as NodeJS.ReadableStream, 'data');
      program.child.stdin?.write('go\n');
      checkPause(t, await program.next());
    } finally {
      await endAll(lingerer, program.child);
    }
  },
);

// ---------- a file system that never answers

/** Another process's readFdInfo(), which is ended where it waits. */
function readFdInfoBeside(pid: number, fd: number): string {
  const code = `import { readFdInfo } from 'dmabuf/inspect'; console.log(JSON.stringify(readFdInfo(${pid}, ${fd}) ?? null));`;
  const { stdout, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
    cwd: packageRoot,
    encoding: 'utf8',
    timeout: mostPause,
    killSignal: 'SIGKILL',
  });
  return signal ?? stdout.trim();
}

for (const [kind, looked] of [
  [
    'perf',
    [false, 'ERR_DMABUF_NOT_DMABUF', 'ERR_DMABUF_NOT_DMABUF', 'ENOTTY', 'ENOTTY', 'ENOTSOCK', 'EINVAL'],
  ],
  [
    'epoll',
    [false, 'ERR_DMABUF_NOT_DMABUF', 'ERR_DMABUF_NOT_DMABUF', 'ENOTTY', 'ENOTTY', 'ENOTSOCK', 'EINVAL'],
  ],
] as const) {
  channelTest(
    `a descriptor whose lock its sender holds (${kind}) is received, looked at and closed without waiting`,
    async (t) => {
      const [here, there] = DmaBufChannel.pair();
      const holder = new Peer(compiled('holds-lock'), [kind], there);
      const program = startCloser('closes', 'look', [here]);
      here.close();
      there.close();
      try {
        const fd = await holder.line();
        await program.next();
        program.child.stdin?.write('go\n');
        const reported = await program.next();
        checkPause(t, reported);
        assert.deepEqual(reported.results.slice(0, looked.length), looked);
        assert.equal(readFdInfoBeside(holder.pid, Number(fd)), 'null');
      } finally {
        holder.kill(); // first: a wait for the lock ends with it
        await holder.ended;
        await endAll(program.child);
      }
    },
    notRoot,
  );
}

for (const [kind, bytes, how, what, results] of [
  ['watched', 1, 'buffer', 'a received buffer is closed', [true]],
  ['watched', 10_001, 'refused', 'a message with a buffer is refused', ['ERR_DMABUF_MESSAGE_TRUNCATED']],
  ['watched', 1, 'queue', 'a channel with a buffer in its queue is closed', []],
  ['returned', 1, 'sent', 'a buffer that was sent is closed', [true]],
  ['socket', 1, 'adopted', 'an adopted channel is closed', [true]],
] as const) {
  channelTest(
    `${what} without waiting for the lock that a peer holds (${kind})`,
    async (t) => {
      const [here, there] = DmaBufChannel.pair();
      const holder = new Peer(compiled('holds-lock'), [kind, `${bytes}`], there);
      const program = startCloser('closes', how, [here]);
      here.close();
      there.close();
      try {
        if (kind !== 'returned') await holder.line();
        await program.next();
        program.child.stdin?.write('go\n');
        const reported = await program.next();
        checkPause(t, reported);
        assert.deepEqual(reported.results, results);
        // Of a socket, the peer has another descriptor: it is its receiving that would wait.
        const names = threadNames(program.child.pid as number);
        assert.ok(
          kind === 'socket' || names.includes('dmabuf-close'),
          `nothing waits for the lock: ${names}`,
        );
      } finally {
        holder.kill(); // first: a wait for the lock ends with it
        await holder.ended;
        await endAll(program.child);
      }
    },
    notRoot,
  );
}

/** More than can be closed of one peer, in messages that are refused. */
function flood(fuse: Peer): void {
  for (let count = 0; count < 9; count++) fuse.tell(`send 10001${' file'.repeat(70)}`);
}

channelTest(
  'a file of a file system that never answers is looked at and closed, twice, without waiting',
  async (t) => {
    await withSilentFiles('closes', pairs, 'look', 1, async ([fuse], program, innocent) => {
      innocent.close();
      await fuse.have('send 10 file');
      program.child.stdin?.write('go\n');
      const reported = await program.next();
      checkPause(t, reported);
      assert.deepEqual(reported.results, [
        false,
        'ERR_DMABUF_NOT_DMABUF',
        'ERR_DMABUF_NOT_DMABUF',
        'ENOTTY',
        'ENOTTY',
        'ENOTSOCK',
        'EINVAL',
        null,
        'EBADF',
      ]);
    });
  },
  notRoot,
);

channelTest(
  'a message of such files for which too few descriptors are free holds nothing up',
  async (t) => {
    await withSilentFiles('closes', pairs, 'few', 1, async ([fuse], program, innocent) => {
      innocent.close();
      await fuse.have(`send 5${' file'.repeat(10)}`);
      program.child.stdin?.write('go\n');
      const reported = await program.next();
      checkPause(t, reported);
      // Dropped with its sender, where the copies that were made of its files keep both threads that he may have.
      assert.match(String(reported.results), /^ERR_DMABUF_(MESSAGE_TRUNCATED|PEER_DROPPED)$/);
    });
  },
  notRoot,
);

channelTest(
  'a peer that sends more such files than can be closed is dropped',
  async (t) => {
    await withSilentFiles('closes', pairs, 'flood', 1, async ([fuse], program, innocent) => {
      innocent.close();
      program.child.stdin?.write('go\n');
      flood(fuse);
      const reported = await program.next();
      checkPause(t, reported);
      assert.deepEqual(reported.results, ['ERR_DMABUF_PEER_DROPPED', null]);
    });
  },
  notRoot,
);

channelTest(
  'while three peers have everything wait that may wait, another one is received from, and what it sends is closed',
  async (t) => {
    await withSilentFiles('closes', pairs, 'innocent', 3, async (fuses, program, innocent) => {
      program.child.stdin?.write('go\n');
      for (const fuse of fuses) flood(fuse);
      const dropped = await program.next();
      assert.deepEqual(dropped.results, new Array(3).fill('ERR_DMABUF_PEER_DROPPED'));
      const file = openSync('/etc/hostname', 'r'); // of a kind that is not closed at once
      try {
        for (let count = 0; count < 300; count++) await innocent.send('x', [file], { timeout: patience });
      } finally {
        closeSync(file);
      }
      innocent.close();
      const reported = await program.next();
      checkPause(t, reported);
      assert.deepEqual(reported.results, [300, 'the end', 'all closed']);
    });
  },
  notRoot,
);

// ---------- how much at once

for (const [what, bytes] of [
  ['received', 1],
  ['refused', 2],
] as const) {
  channelTest(`the event loop turns before all messages of 64 peers are ${what}`, async () => {
    const [here, there] = pairs(64);
    const receivers = here.map((channel) => DmaBufChannel.adopt(channel.release(), { maxMessageSize: 1 }));
    const file = openSync('/dev/null', 'r');
    const message = new Uint8Array(bytes);
    for (const channel of there) {
      for (let count = 0; count < 4; count++) await channel.send(message, new Array(64).fill(file));
    }
    let inTurn = 0;
    let most = 0;
    let over = false;
    const turn = (): void => {
      most = Math.max(most, inTurn);
      inTurn = 0;
      if (!over) setImmediate(turn);
    };
    setImmediate(turn);
    const receive = async (channel: DmaBufChannel): Promise<void> => {
      for (let count = 0; count < 4; count++) {
        const received = await channel.receive().catch(() => undefined);
        closeHandles(received?.handles ?? []);
        inTurn += 64;
      }
    };
    await Promise.all(receivers.map(receive));
    over = true;
    most = Math.max(most, inTurn);
    closeSync(file);
    for (const channel of [...receivers, ...there]) channel.close();
    // Of 16 384 descriptors; what is done in a turn may come before and after the count.
    assert.ok(most <= 2 * (1024 + 64), `${most} in a turn`);
  });
}

for (const what of ['buffer', 'file'] as const) {
  channelTest(`a peer of whom many descriptors are closed at once is not dropped (${what})`, async () => {
    const [here, there] = DmaBufChannel.pair();
    using receiver = DmaBufChannel.adopt(here.release(), { maxMessageSize: 1 });
    using buffer = allocateSync(4096);
    const file = openSync('/etc/hostname', 'r'); // of a kind that is not closed at once
    const handles = new Array<Sendable>(253).fill(what === 'buffer' ? buffer : file);
    const received: Sendable[] = [];
    for (let count = 0; count < 3; count++) {
      await there.send('x', handles);
      received.push(...((await receiver.receive())?.handles ?? []));
    }
    closeHandles(received);
    for (let count = 0; count < 4; count++) {
      await there.send('refused', handles);
      await rejectsCode(() => receiver.receive(), 'ERR_DMABUF_MESSAGE_TRUNCATED');
    }
    await there.send('y');
    assert.equal(await nextText(receiver), 'y');
    closeSync(file);
    there.close();
  });
}

// ---------- no thread

for (const [what, by, open] of [
  ['file', 'a thread', true],
  ['received', 'a thread', true],
  ['sent', 'a thread', true],
  ['imported', 'a thread', true],
  ['the last copy of what was received', 'a thread', true],
  ['a copy of what was sent before', 'a thread', true],
  ['a copy, the other was sent', 'a thread', true],
  ['a copy beside what was received', 'the thread that asks', false],
  ['a copy of our own', 'the thread that asks', false],
  ['our own, by its number', 'the thread that asks', false],
  ['own', 'the thread that asks', false],
] as const) {
  kernelTest(`${by} closes it (${what}); where none can be made, as soon as there can be one`, () => {
    const env = { ...process.env, DMABUF_TEST_WHAT: what };
    assert.deepEqual(runProgram('no-threads', { env }), { open, openLater: false });
  });
}

channelTest('so it is in a worker', () => {
  assert.deepEqual(
    runProgram('no-threads', { env: { ...process.env, DMABUF_TEST_WHAT: 'file', IN_WORKER: '1' } }),
    {
      open: true,
      openLater: false,
    },
  );
});

channelTest(
  'a channel that is released leaves the message that waits to be thrown away, and its number alone',
  async () => {
    const mount = new MountPoint();
    const [here, there] = DmaBufChannel.pair();
    const fuse = new Peer(compiled('silent-fuse'), [mount.path, '0'], there);
    const command = ['--nofile=200', process.execPath, programFile('releases')];
    const program = new Peer('prlimit', command, here);
    here.close();
    there.close();
    try {
      assert.equal(await fuse.line(), 'mounted');
      await fuse.have('send 1 file file file');
      await fuse.have('send 1 file');
      assert.deepEqual(JSON.parse(await program.line()), ['ERR_DMABUF_CLOSED', true]);
      fuse.kill();
      await fuse.ended;
      assert.equal(await program.ask('go on'), 'kept');
    } finally {
      fuse.kill(); // first: a wait for it ends with it
      await fuse.ended;
      program.kill();
      await program.ended;
      mount.remove();
    }
  },
  notRoot,
);
