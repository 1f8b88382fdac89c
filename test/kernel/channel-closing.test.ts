// What others have sent is closed and looked at without the event loop standing still: descriptors whose close(2) waits for
// seconds, or for ever. The programs run in processes of their own, since what goes wrong here cannot be ended.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { closeHandles, DmaBufChannel } from 'dmabuf';
import { channelTest, compiled, Peer, programFile } from '../support/peers.js';

// A socket lingers for a minute, and the file system never answers; what is between is a busy machine's.
const mostPause = 30_000; // milliseconds

interface Reported {
  ready?: boolean;
  worst: number;
  results: unknown[];
}

interface Program {
  child: ChildProcess;
  next(): Promise<Reported>;
}

function start(command: string, args: string[], channels: readonly DmaBufChannel[]): ChildProcess {
  return spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit', ...channels.map(({ fd }) => fd)] });
}

function startProgram(how: string, channels: readonly DmaBufChannel[]): Program {
  const child = start(process.execPath, [programFile('closes'), how, `${channels.length}`], channels);
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  return { child, next: async () => JSON.parse((await lines.next()).value) as Reported };
}

function pairs(count: number): [DmaBufChannel[], DmaBufChannel[]] {
  const all = Array.from({ length: count }, () => DmaBufChannel.pair());
  return [all.map(([one]) => one), all.map(([, other]) => other)];
}

async function endAll(...children: ChildProcess[]): Promise<void> {
  for (const child of children) {
    const ended = once(child, 'close');
    child.kill('SIGKILL');
    await ended;
  }
}

function checkPause(t: TestContext, { worst }: Reported): void {
  t.diagnostic(`the event loop stood still for ${worst} ms at most`);
  assert.ok(worst < mostPause, `${worst} ms`);
}

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
      const program = startProgram(how, here);
      for (const channel of [...here, ...there]) channel.close();
      try {
        await program.next();
        lingerer.stdin?.write(`send ${bytes}\n`);
        await once(lingerer.stdout as NodeJS.ReadableStream, 'data');
        program.child.stdin?.write('go\n');
        checkPause(t, await program.next());
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
    const program = startProgram('server', []);
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

const noRoot: string | false = process.getuid?.() === 0 ? false : 'needs root';

async function withSilentFiles(
  how: string,
  body: (fuse: Peer, program: Program) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
  chmodSync(folder, 0o755);
  const [here, there] = DmaBufChannel.pair();
  const fuse = new Peer(compiled('silent-fuse'), [folder, '0'], there);
  const program = startProgram(how, [here]);
  here.close();
  there.close();
  try {
    assert.equal(await fuse.line(), 'mounted');
    await program.next();
    await body(fuse, program);
  } finally {
    fuse.kill(); // first: whoever waits for it waits for its end
    await endAll(program.child);
    await fuse.ended;
    try {
      rmSync(folder, { recursive: true });
    } catch {
      // It is a mount that nobody serves.
    }
  }
}

channelTest(
  'a file of a file system that never answers is looked at and closed, twice, without waiting',
  async (t) => {
    await withSilentFiles('look', async (fuse, program) => {
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
  noRoot,
);

channelTest(
  'a peer that sends more such files than can be closed is dropped',
  async (t) => {
    await withSilentFiles('flood', async (fuse, program) => {
      const files = ' file'.repeat(70);
      program.child.stdin?.write('go\n');
      for (let count = 0; count < 9; count++) fuse.tell(`send 10001${files}`);
      const reported = await program.next();
      checkPause(t, reported);
      assert.deepEqual(reported.results, ['ERR_DMABUF_PEER_DROPPED']);
    });
  },
  noRoot,
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
