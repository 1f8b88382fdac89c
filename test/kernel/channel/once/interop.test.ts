import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readlinkSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { allocateSync, type ChannelOptions, type DmaBuf, DmaBufChannel } from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import { compiled } from '../../../support/compiled.js';
import { flagsOf } from '../../../support/descriptors.js';
import { asBuffer, asNumber } from '../../../support/handles.js';
import { hasKernel } from '../../../support/kernel-test.js';
import { Peer, patience, programFile, receiveFrom, receiveText } from '../../../support/peers.js';
import { python } from '../../../support/programs.js';

// Programs that know nothing of the package at the other end: in C (channel-peer.c) and in Python (channel_peer.py).

let folder = '';
const socketPath = (): string => join(folder, 'socket');

function whyNoPython(): string | false {
  try {
    const asked = 'import sys; print(sys.version_info >= (3, 9))';
    const answer = execFileSync(python, ['-c', asked], { encoding: 'utf8', stdio: 'pipe' });
    return answer === 'True\n' ? false : 'Python is older than 3.9';
  } catch (error) {
    return `no Python here: ${(error as Error).message}`;
  }
}

/** A program in another language: one process for all tests, since starting one takes seconds in an emulated machine. */
interface Program {
  language: string;
  skip: string | false;
  command(): [string, ...string[]];
  peer?: Peer;
  /** Our end of what it inherited. */
  channel?: DmaBufChannel;
}

const c: Program = { language: 'C', skip: false, command: () => [compiled('channel-peer')] };
const programs: readonly Program[] = [
  c,
  {
    language: 'Python',
    skip: hasKernel && whyNoPython(),
    command: () => [python, programFile('channel_peer.py')],
  },
];

before(() => {
  if (!hasKernel) return;
  folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
  for (const program of programs) {
    if (program.skip !== false) continue;
    const [here, there] = DmaBufChannel.pair();
    const [command, ...args] = program.command();
    program.channel = here;
    program.peer = new Peer(command, [...args, '3'], there);
    there.close();
  }
});

after(async () => {
  for (const { peer, channel } of programs) {
    if (peer === undefined) continue;
    channel?.close();
    assert.equal(await peer.finish(), 0);
    assert.equal(peer.errors, '');
  }
  if (folder !== '') rmSync(folder, { recursive: true });
});

async function connected(peer: Peer, options?: ChannelOptions): Promise<DmaBufChannel> {
  using server = DmaBufChannel.listen(socketPath(), options);
  peer.tell(`connect ${socketPath()}`);
  return await server.accept({ timeout: patience });
}

async function accepted(peer: Peer): Promise<DmaBufChannel> {
  assert.equal(await peer.ask(`listen ${socketPath()}`), 'listening');
  return DmaBufChannel.connect(socketPath());
}

/** How a program comes to its end of a channel. */
const ways: readonly [
  string,
  (program: Required<Program>, fn: (channel: DmaBufChannel) => Promise<void>) => Promise<void>,
][] = [
  ['that inherited its end', ({ channel }, fn) => fn(channel)],
  [
    'that connects',
    async ({ peer }, fn) => {
      using channel = await connected(peer);
      await fn(channel);
    },
  ],
  [
    'that listens',
    async ({ peer }, fn) => {
      using channel = await accepted(peer);
      await fn(channel);
    },
  ],
];

/** Whose byte i is i * factor + offset. */
function pattern(size: number, factor: number, offset: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, index) => index * factor + offset);
}

function bytesOf(buffer: DmaBuf): Uint8Array {
  const bytes = new Uint8Array(buffer.size);
  buffer.read(bytes);
  return bytes;
}

/** What came back of a buffer that the peer was sent, with our own, which it has written to. */
interface Exchanged {
  ours: DmaBuf;
  returned: DmaBuf;
  theirs: DmaBuf;
  pipe: number;
  /** As the peer knows them: of the one it got, and of its own. */
  inodes: string;
}

async function exchange(
  channel: DmaBufChannel,
  check: (exchanged: Exchanged) => void | Promise<void>,
): Promise<void> {
  using ours = allocateSync(3 * 4096);
  ours.write(pattern(ours.size, 7, 1));
  await channel.send('!exchange', [ours]);
  const { data, handles } = await receiveFrom(channel);
  const inodes = Buffer.from(data).toString();
  assert.equal(handles.length, 3, inodes);
  using returned = asBuffer(handles[0]);
  using theirs = asBuffer(handles[1]);
  const pipe = asNumber(handles[2]);
  try {
    await check({ ours, returned, theirs, pipe, inodes });
  } finally {
    closeSync(pipe);
  }
}

/** O_NONBLOCK in the peer's answer to "!flags": 0 when its end blocks. */
async function blockingFlag(channel: DmaBufChannel): Promise<number> {
  const [, flags] = /^flags ([0-7]+)$/.exec(await receiveText(channel)) ?? [];
  return Number.parseInt(flags as string, 8) & 0o4000;
}

async function echo(channel: DmaBufChannel, data: Uint8Array): Promise<void> {
  await channel.send(data);
  const returned = await receiveFrom(channel);
  assert.equal(Buffer.compare(returned.data, data), 0, `${returned.data.length} bytes, not ${data.length}`);
}

/** Closes `count` descriptors of /dev/null. */
function closeNulls(handles: readonly unknown[], count: number): void {
  assert.equal(handles.length, count);
  for (const fd of handles as number[]) {
    assert.equal(readlinkSync(`/proc/self/fd/${fd}`), '/dev/null');
    closeSync(fd);
  }
}

/** What must hold with each peer. */
const facts: readonly [string, (channel: DmaBufChannel) => Promise<void>][] = [
  [
    'reads what Node wrote into a buffer, and Node reads what it wrote',
    (channel) =>
      exchange(channel, ({ ours, returned }) => {
        const written = pattern(3 * 4096, 13, 5);
        assert.deepEqual(bytesOf(returned), written);
        assert.deepEqual(bytesOf(ours), written);
      }),
  ],
  [
    'knows buffers by the same inodes as Node',
    (channel) =>
      exchange(channel, ({ ours, returned, theirs, inodes }) => {
        assert.equal(inodes, `inodes ${ours.inode} ${theirs.inode}`);
        assert.equal(returned.inode, ours.inode);
      }),
  ],
  [
    'sends a buffer of its own',
    (channel) =>
      exchange(channel, ({ theirs }) => {
        const { exporter, name, size } = theirs.info();
        assert.deepEqual([exporter, name, size], ['system', 'of the peer', 8192]);
        assert.deepEqual(bytesOf(theirs), pattern(8192, 31, 2));
      }),
  ],
  [
    'sends the end of a pipe with buffers',
    (channel) =>
      exchange(channel, ({ pipe }) => {
        const bytes = Buffer.alloc(100);
        const length = readSync(pipe, bytes, 0, 100, null);
        assert.equal(bytes.toString('latin1', 0, length), 'through the pipe');
      }),
  ],
  [
    'keeps a blocking socket, however Node has waited',
    async (channel) => {
      const stop = new AbortController();
      const waiting = channel.receive({ signal: stop.signal });
      stop.abort();
      await assert.rejects(waiting);
      await channel.send('!flags');
      assert.equal(await blockingFlag(channel), 0);
    },
  ],
  [
    'gets messages as they were sent, not glued and not split',
    async (channel) => {
      const sizes = [1, 2, 3, 4095, 4096, 4097, 1, 70_000, 10];
      for (const size of sizes) await channel.send(Buffer.alloc(size, size));
      for (const size of sizes) {
        const { data } = await receiveFrom(channel);
        assert.equal(Buffer.compare(data, Buffer.alloc(size, size)), 0);
      }
    },
  ],
  [
    'sends messages that arrive as they were sent',
    async (channel) => {
      const sizes = [1, 4096, 2, 4097, 65_536, 3];
      await channel.send(`!sizes ${sizes.join(' ')}`);
      for (const size of sizes) {
        const { data } = await receiveFrom(channel);
        assert.equal(Buffer.compare(data, Buffer.alloc(size, size % 251)), 0);
      }
    },
  ],
  [
    'sends empty messages among others',
    async (channel) => {
      await channel.send('!sizes 0 1 0 0 2 0');
      const lengths: number[] = [];
      while (lengths.length < 6) lengths.push((await receiveFrom(channel)).data.length);
      assert.deepEqual(lengths, [0, 1, 0, 0, 2, 0]);
    },
  ],
  [
    'gets handles without data, and sends them back',
    async (channel) => {
      using buffer = allocateSync(4096);
      await channel.send('', [buffer]);
      const { data, handles } = await receiveFrom(channel);
      using returned = asBuffer(handles[0]);
      assert.deepEqual([data.length, handles.length, returned.inode], [0, 1, buffer.inode]);
    },
  ],
  [
    'sends descriptors without data',
    async (channel) => {
      await channel.send('!fds 3');
      const { data, handles } = await receiveFrom(channel);
      assert.equal(data.length, 0);
      closeNulls(handles, 3);
    },
  ],
  [
    'gets 253 handles in one message, and sends them back in their order',
    async (channel) => {
      const buffers = [allocateSync(4096), allocateSync(4096), allocateSync(4096)] as const;
      const sent = Array.from({ length: 253 }, (_, index) => buffers[index % 3] as DmaBuf);
      await channel.send('all', sent);
      const { handles } = await receiveFrom(channel);
      const inodes = handles.map((handle) => asBuffer(handle).inode);
      for (const buffer of [...buffers, ...handles.map(asBuffer)]) buffer.close();
      assert.deepEqual(
        inodes,
        Array.from({ length: 253 }, (_, index) => (inodes[0] as number) + (index % 3)),
      );
    },
  ],
  [
    'sends 253 descriptors in one message',
    async (channel) => {
      await channel.send('!fds 253');
      closeNulls((await receiveFrom(channel)).handles, 253);
    },
  ],
  [
    'gets the largest message, and sends it back',
    async (channel) => {
      const data = new Uint8Array(channel.maxMessageSize);
      for (let index = 0; index < data.length; index++) data[index] = index * 17;
      await echo(channel, data);
    },
  ],
  [
    'gets the largest message with 253 handles, and sends both back',
    async (channel) => {
      const nulls = openSync('/dev/null', 'r');
      await channel.send(new Uint8Array(channel.maxMessageSize).fill(1), new Array(253).fill(nulls));
      closeSync(nulls);
      const { data, handles } = await receiveFrom(channel);
      assert.equal(data.length, channel.maxMessageSize);
      closeNulls(handles, 253);
    },
  ],
];

for (const program of programs) {
  for (const [way, run] of ways) {
    for (const [fact, check] of facts) {
      const name = `a ${program.language} program ${way} ${fact}`;
      channelTest(name, () => run(program as Required<Program>, check), program.skip);
    }
  }
}

channelTest('a C program and Node exchange messages of 4 MiB where both allow them', async () => {
  const maxMessageSize = 4 * 2 ** 20;
  using channel = await connected(c.peer as Peer, { maxMessageSize });
  await channel.send(`!room ${maxMessageSize}`);
  assert.equal(await receiveText(channel), 'room');
  await echo(channel, Buffer.alloc(maxMessageSize, 'abcdefghijklm'));
});

channelTest('an end that Node has waited on is a blocking one for the program that gets it', async () => {
  const [here, there] = DmaBufChannel.pair();
  const stop = new AbortController();
  const waiting = there.receive({ signal: stop.signal });
  stop.abort();
  await assert.rejects(waiting);
  await using peer = new Peer(c.command()[0], ['3'], there);
  there.close();
  await here.send('!flags');
  const flags = await blockingFlag(here);
  here.close();
  await peer.finish();
  assert.equal(flags, 0);
});

channelTest('waiting does not change the flags of our own end, which another process may share', async () => {
  const [here, there] = DmaBufChannel.pair();
  const before = flagsOf(here.fd);
  const waiting = here.receive();
  await there.send('now');
  await waiting;
  const after = flagsOf(here.fd);
  here.close();
  there.close();
  assert.equal(after.toString(8), before.toString(8));
});
