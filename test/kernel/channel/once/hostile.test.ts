import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext } from 'node:test';
import {
  allocateSync,
  type ChannelOptions,
  DmaBuf,
  DmaBufChannel,
  type DmaBufServer,
  openHandles,
  type Sendable,
  SyncFile,
} from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import { compiled } from '../../../support/compiled.js';
import { openFds } from '../../../support/descriptors.js';
import { until } from '../../../support/event-loop.js';
import { rejectsCode } from '../../../support/expect.js';
import { asBuffer, asNumber, closeEach, kindOf } from '../../../support/handles.js';
import { hasKernel } from '../../../support/kernel-test.js';
import { MountPoint } from '../../../support/mount-point.js';
import { notRoot } from '../../../support/needs.js';
import { kernelHas, noKernelList } from '../../../support/observe.js';
import { nodePeer, Peer, patience, programFile, receiveFrom, receiveText } from '../../../support/peers.js';
import type { ReceiverOptions, Reported } from '../../../support/programs/channel-receiver.js';

// Peers that mean harm, as processes of their own: hostile-peer.c does what it is told. Whatever they do costs this side
// an error at most.

let folder = '';
let binary = '';

before(() => {
  if (!hasKernel) return;
  folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
  chmodSync(folder, 0o755);
  binary = compiled('hostile-peer');
});

after(() => {
  if (folder !== '') rmSync(folder, { recursive: true });
});

type HostileBody = (channel: DmaBufChannel, peer: Peer, t: TestContext) => Promise<void>;

/** A test with a hostile peer at the other end of a channel. */
function hostileTest(
  name: string,
  body: HostileBody,
  { unless = false, ...options }: ChannelOptions & { unless?: string | false } = {},
): void {
  channelTest(
    name,
    async (t) => {
      const [here, there] = DmaBufChannel.pair(options);
      using channel = here;
      await using peer = new Peer(binary, [], there);
      there.close();
      await body(channel, peer, t);
    },
    unless,
  );
}

/** xorshift32, as in channel.h. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** Sends until a message has to wait, and returns how many were taken. */
async function sendUntilFull(channel: DmaBufChannel, handles: readonly Sendable[] = []): Promise<number> {
  for (let count = 0; ; count++) {
    try {
      await channel.send(new Uint8Array(8192), handles, { timeout: 0 });
    } catch (error) {
      assert.equal((error as { code: string }).code, 'ETIMEDOUT');
      return count;
    }
  }
}

async function receiveEnd(channel: DmaBufChannel): Promise<void> {
  assert.equal(await channel.receive({ timeout: patience }), undefined);
}

// ---------- what a descriptor may be

const kinds = [
  'a regular file',
  'a directory',
  'the path of a file',
  'the path of a symbolic link',
  'the path of a socket',
  'the reading end of a pipe',
  'the writing end of a pipe',
  'a pipe that nobody writes',
  'a pipe that nobody reads',
  'a FIFO',
  "a pty's master",
  "a pty's slave",
  'a console',
  'a serial line',
  'an eventfd',
  'an eventfd that is a semaphore',
  'an epoll instance',
  'an epoll instance that watches the channel',
  'epoll instances in one another',
  'a timerfd',
  'a signalfd',
  'a memfd that calls itself a dma-buf',
  'secret memory',
  'an inotify instance',
  'an inotify instance with a watch',
  'a fanotify instance',
  'a Unix stream socket',
  'a Unix datagram socket',
  "a Unix socket as the channel's",
  'a listening TCP socket',
  'a UDP socket',
  'a netlink socket',
  'a packet socket',
  '/dev/null',
  '/dev/zero',
  '/dev/full',
  '/dev/urandom',
  '/dev/kmsg',
  'the system heap',
  '/dev/udmabuf',
  'a DRM device',
  'a DRM render node',
  '/dev/fuse',
  '/proc/self/status',
  '/proc/self/mem',
  '/proc/self/maps',
  '/proc/self/fd',
  'the fdinfo of a dma-buf',
  'a namespace',
  'a file of sysfs',
  "the kernel's list of dma-bufs",
  'a file of a cgroup',
  'a file in shared memory',
  'a pidfd',
  'the pidfd of a dead process',
  'an io_uring',
  'a userfaultfd',
  'a userfaultfd in use',
  'a BPF map',
  'a BPF program',
  'a performance event',
  'a Landlock ruleset',
  'a tree of mounts',
  "a file system's context",
  'a mount that is nowhere',
  'a message queue',
  "the program's own file",
  'a dma-buf that was opened as a path',
  'a sync_file that was opened as a path',
  "the sender's own end",
];

/** Sends every kind: one process for all of these tests. */
let sender: { channel: DmaBufChannel; peer: Peer } | undefined;

function theSender(): { channel: DmaBufChannel; peer: Peer } {
  if (sender !== undefined) return sender;
  const [channel, there] = DmaBufChannel.pair();
  sender = { channel, peer: new Peer(binary, [], there) };
  there.close();
  return sender;
}

before(() => {
  if (hasKernel) theSender();
});

after(async () => {
  sender?.channel.close();
  await sender?.peer.finish();
});

async function receiveKind(kind: string): Promise<{ target: string; handle?: Sendable }> {
  const { channel, peer } = theSender();
  await peer.have(`kind ${kind}`);
  const { data, handles } = await receiveFrom(channel);
  const target = Buffer.from(data).toString('latin1');
  const [handle] = handles;
  return handle === undefined ? { target } : { target, handle };
}

const targetOf = (fd: number): string => readlinkSync(`/proc/self/fd/${fd}`, 'latin1');

// The first dma-buf that ever comes teaches a process what dma-bufs look like: these are the first tests of this file.
for (const when of ['before any dma-buf came', 'after dma-bufs came']) {
  for (const kind of kinds) {
    channelTest(`${kind} is a plain number, ${when}`, async (t) => {
      const { target, handle } = await receiveKind(kind);
      if (handle === undefined) return t.skip(`it cannot be had here: ${target}`);
      try {
        assert.equal(kindOf(handle), 'number');
        assert.equal(targetOf(asNumber(handle)), target);
      } finally {
        closeEach([handle]);
      }
    });
  }

  for (const [kind, type] of [
    ['a dma-buf', DmaBuf],
    ['a read-only dma-buf', DmaBuf],
    ['a sync_file', SyncFile],
  ] as const) {
    channelTest(`${kind} is a ${type.name}, ${when}`, async () => {
      const { target, handle } = await receiveKind(kind);
      assert.ok(handle !== undefined, target);
      closeEach([handle]);
      assert.ok(handle instanceof type);
    });
  }
}

// ---------- what a message may be

hostileTest(
  '3000 messages of random bytes and descriptors arrive as they were sent',
  async (channel, peer) => {
    peer.tell('garbage 4711 3000');
    const random = randomNumbers(4711);
    for (let number = 0; number < 3000; number++) {
      const shape = random();
      const expected = new Uint8Array(shape % 16 === 0 ? shape % 60_000 : shape % 300);
      for (let index = 0; index < expected.length; index++) expected[index] = random();
      const kinds = Array.from({ length: shape % 97 === 0 ? 253 : (shape >>> 16) % 5 }, () =>
        random() % 2 === 1 ? 'DmaBuf' : 'number',
      );
      const { data, handles } = await receiveFrom(channel);
      closeEach(handles);
      assert.equal(Buffer.compare(data, expected), 0, `message ${number}`);
      assert.deepEqual(handles.map(kindOf), kinds, `message ${number}`);
    }
    assert.equal(await peer.line(), 'ok');
  },
);

hostileTest('empty messages are messages, and not the end', async (channel, peer) => {
  await peer.have('empty 3');
  await peer.have('say x');
  const lengths: number[] = [];
  while (lengths.length < 4) lengths.push((await receiveFrom(channel)).data.length);
  assert.deepEqual(lengths, [0, 0, 0, 1]);
});

for (const count of [1, 2, 5]) {
  hostileTest(
    `what follows ${count} empty messages of a peer that has gone is received`,
    async (channel, peer) => {
      await peer.have(`empty ${count}`);
      await peer.have('say x');
      await peer.have('close');
      const lengths: (number | undefined)[] = [];
      while (lengths.length < count + 2) lengths.push((await channel.receive())?.data.length);
      assert.deepEqual(lengths, [...new Array(count).fill(0), 1, undefined]);
    },
  );

  for (const [whose, limit] of [
    ['a channel of its own', undefined],
    ['a channel whose number was told', 'told'],
  ] as const) {
    hostileTest(
      `${count} empty messages before the end are all received, then the end, on ${whose}`,
      async (channel, peer) => {
        if (limit === 'told') assert.ok(channel.fd > 0);
        await peer.have(`empty ${count}`);
        await peer.have('close');
        let received = 0;
        for await (const { data } of channel) {
          assert.equal(data.length, 0);
          received++;
        }
        assert.equal(received, count);
      },
    );
  }
}

hostileTest(
  'a descriptor after empty messages of a peer that has gone is received',
  async (channel, peer) => {
    await peer.have('empty 2');
    await peer.have('send 0 1');
    await peer.have('close');
    let received = 0;
    for await (const { handles } of channel) {
      closeEach(handles);
      received += handles.length;
    }
    assert.equal(received, 1);
  },
);

hostileTest('253 descriptors without data arrive', async (channel, peer) => {
  await peer.have('send 0 253');
  const { data, handles } = await receiveFrom(channel);
  closeEach(handles);
  assert.deepEqual([data.length, handles.length], [0, 253]);
});

hostileTest(
  'more messages full of descriptors than this process may open arrive one by one',
  async (channel, peer) => {
    for (let round = 0; round < 50; round++) {
      await peer.have('send 1 253');
      closeEach((await receiveFrom(channel)).handles);
    }
    assert.equal(openHandles().filter(({ type }) => type === 'DmaBuf').length, 0);
  },
);

for (const [what, bytes, fds] of [
  ['a byte too large', 212_961, 0],
  ['a byte too large, with descriptors', 212_961, 253],
  ['far too large, with descriptors', 1_000_000, 100],
] as const) {
  hostileTest(
    `a message that is ${what} is an error that says its size, and the next one arrives`,
    async (channel, peer) => {
      assert.equal(channel.maxMessageSize, 212_960);
      const refused = rejectsCode(() => channel.receive(), 'ERR_DMABUF_MESSAGE_TRUNCATED');
      await peer.have(`send ${bytes} ${fds}`);
      const error = await refused;
      assert.match(error.message, new RegExp(`it has ${bytes} bytes, .* at most 212960`));
      await peer.have('say next');
      assert.equal(await receiveText(channel), 'next');
    },
    { unless: notRoot },
  );
}

hostileTest(
  'a channel that takes little takes exactly that',
  async (channel, peer) => {
    for (const bytes of [1000, 1001, 1000]) {
      await peer.have(`send ${bytes} 2`);
      if (bytes > 1000) {
        await rejectsCode(() => channel.receive(), 'ERR_DMABUF_MESSAGE_TRUNCATED');
      } else {
        const { data, handles } = await receiveFrom(channel);
        closeEach(handles);
        assert.deepEqual([data.length, handles.length], [bytes, 2]);
      }
    }
  },
  { maxMessageSize: 1000 },
);

hostileTest(
  'a loop over messages ends with the error of one that is too large, and can be begun again',
  async (channel, peer) => {
    const texts: string[] = [];
    const loop = async (): Promise<void> => {
      for await (const { data } of channel) texts.push(Buffer.from(data).toString());
    };
    for (const command of ['say one', 'send 1001 3', 'say two', 'close']) await peer.have(command);
    await rejectsCode(loop, 'ERR_DMABUF_MESSAGE_TRUNCATED');
    await loop();
    assert.deepEqual(texts, ['one', 'two']);
  },
  { maxMessageSize: 1000 },
);

// ---------- control messages

hostileTest('descriptors in several control messages arrive together', async (channel, peer) => {
  assert.equal(await peer.ask('controls 5 7 0'), 'ok');
  const { data, handles } = await receiveFrom(channel);
  closeEach(handles);
  assert.deepEqual([Buffer.from(data).toString(), handles.length], ['controls', 35]);
});

hostileTest(
  'descriptors among credentials and what belongs to other protocols arrive',
  async (channel, peer) => {
    assert.equal(await peer.ask('controls 2 100 1'), 'ok');
    const { data, handles } = await receiveFrom(channel);
    closeEach(handles);
    assert.deepEqual([Buffer.from(data).toString(), handles.length], ['controls', 200]);
  },
);

hostileTest('credentials without descriptors are no handles', async (channel, peer) => {
  assert.equal(await peer.ask('controls 0 0 1'), 'ok');
  assert.equal(await receiveText(channel), 'controls');
});

hostileTest('a socket that a peer has prepared yields every message whole', async (channel, peer) => {
  await peer.have('prepare');
  const { handles } = await receiveFrom(channel);
  using prepared = DmaBufChannel.adopt(asNumber(handles[0]));
  assert.equal(await peer.ask('controls 3 80 1'), 'ok');
  await peer.have('send 100 253');
  await peer.have('say last');
  await peer.have('close');
  const received: [number, number][] = [];
  for await (const message of prepared) {
    closeEach(message.handles);
    received.push([message.data.length, message.handles.length]);
  }
  assert.deepEqual(received, [
    [8, 240],
    [100, 253],
    [4, 0],
  ]);
});

// ---------- sockets in sockets

for (const depth of [1, 2, 3]) {
  hostileTest(`a dma-buf in ${depth} sockets in one another can be taken out`, async (channel, peer) => {
    await peer.have(`nested ${depth}`);
    let { data, handles } = await receiveFrom(channel);
    const inode = Number(Buffer.from(data).toString());
    for (let level = 0; level < depth; level++) {
      using inner = DmaBufChannel.adopt(asNumber(handles[0]));
      ({ data, handles } = await receiveFrom(inner));
      assert.equal(Buffer.from(data).toString(), 'inner');
      await receiveEnd(inner);
    }
    using buffer = asBuffer(handles[0]);
    assert.equal(buffer.inode, inode);
  });

  hostileTest(
    `a dma-buf in ${depth} sockets in one another goes with the outermost`,
    async (channel, peer) => {
      await peer.have(`nested ${depth}`);
      const { data, handles } = await receiveFrom(channel);
      const inode = Number(Buffer.from(data).toString());
      const existed = kernelHas(inode);
      closeEach(handles);
      await peer.finish();
      await until(() => !kernelHas(inode));
      assert.equal(existed, true);
    },
    { unless: noKernelList },
  );
}

hostileTest('sockets 50 deep in one another harm nobody', async (channel, peer) => {
  // Older kernels refuse them to their sender.
  const answer = await peer.ask('nested 50');
  if (answer === 'ok') closeEach((await receiveFrom(channel)).handles);
  else assert.match(answer, /Too many references/);
  await peer.have('say alive');
  assert.equal(await receiveText(channel), 'alive');
});

hostileTest(
  "a peer's own end that it sent is a channel to ourselves once the peer is gone",
  async (channel, peer) => {
    await peer.have("kind the sender's own end");
    const { handles } = await receiveFrom(channel);
    using theirs = DmaBufChannel.adopt(asNumber(handles[0]));
    await peer.finish();
    await theirs.send('from us');
    assert.equal(await receiveText(channel), 'from us');
    theirs.close();
    await receiveEnd(channel);
  },
);

channelTest(
  'both ends of a channel in its own queue go with all that is there, once both are closed',
  async () => {
    const [here, there] = DmaBufChannel.pair();
    const buffer = allocateSync(4096);
    const { inode } = buffer;
    await here.send('cycle', [here.fd, there.fd, buffer]);
    await there.send('cycle', [here.fd, there.fd, buffer]);
    for (const object of [here, there, buffer]) object.close();
    // The kernel looks for such cycles when a socket is closed.
    await until(() => {
      for (const end of DmaBufChannel.pair()) end.close();
      return !kernelHas(inode);
    });
  },
  noKernelList,
);

// ---------- names

hostileTest(
  'names of hostile bytes change nothing else of what is known of a buffer',
  async (channel, peer) => {
    peer.tell('names');
    for (let count = 0; count < 14; count++) {
      const { data, handles } = await receiveFrom(channel);
      using buffer = asBuffer(handles[0]);
      const { exporter, size, inode, name } = buffer.info();
      assert.deepEqual([exporter, size, inode], ['system', 4096, buffer.inode]);
      assert.equal(name, Buffer.from(data).toString());
      const listed = openHandles().find((open) => open.inode === inode);
      assert.deepEqual([listed?.exporter, listed?.size, listed?.name], ['system', 4096, name]);
    }
    assert.equal(await peer.line(), 'ok');
  },
);

// ---------- peers that die

for (let seed = 1; seed <= 8; seed++) {
  hostileTest(
    `a peer that is killed while it sends has sent whole messages in order (${seed})`,
    async (channel, peer) => {
      const random = randomNumbers(seed * 7919);
      await peer.have(`flood ${seed}`);
      const killAfter = random() % 400;
      const shapes = randomNumbers(seed);
      let number = 0;
      for await (const { data, handles } of channel) {
        closeEach(handles);
        const words = new Uint32Array(data.buffer, data.byteOffset, data.length / 4);
        assert.deepEqual([words.length, handles.length], [64, shapes() % 8]);
        assert.ok(words.every((word) => word === number));
        if (number++ === killAfter) peer.kill();
      }
      assert.equal(await peer.ended, 'SIGKILL');
      assert.ok(number > killAfter);
    },
  );
}

for (let seed = 1; seed <= 8; seed++) {
  hostileTest(
    `sending to a peer that is killed ends with EPIPE and leaves no buffer (${seed})`,
    async (channel, peer) => {
      const killAfter = randomNumbers(seed * 104_729)() % 200;
      const buffer = allocateSync(4096);
      const { inode } = buffer;
      peer.tell('read 1000000');
      await rejectsCode(async () => {
        for (let number = 0; ; number++) {
          if (number === killAfter) peer.kill();
          await channel.send(new Uint8Array(1000), [buffer, buffer]);
        }
      }, 'EPIPE');
      await peer.ended;
      await receiveEnd(channel);
      buffer.close();
      await until(() => !kernelHas(inode));
    },
    { unless: noKernelList },
  );
}

hostileTest(
  'everything that waits to be sent ends with EPIPE when the peer is killed',
  async (channel, peer) => {
    using buffer = allocateSync(4096);
    await sendUntilFull(channel);
    const waiting = Array.from({ length: 50 }, () => channel.send('more', [buffer, buffer]));
    peer.kill();
    const outcomes = await Promise.allSettled(waiting);
    const codes = outcomes.map((outcome) => (outcome.status === 'rejected' ? outcome.reason.code : 'sent'));
    assert.deepEqual([...new Set(codes)], ['EPIPE']);
  },
);

hostileTest('everything that waits to be received ends when the peer is killed', async (channel, peer) => {
  const waiting = Array.from({ length: 50 }, () => channel.receive({ timeout: patience }));
  peer.kill();
  assert.deepEqual([...new Set(await Promise.all(waiting))], [undefined]);
});

hostileTest('what a killed peer had sent is received, though it never read', async (channel, peer) => {
  await sendUntilFull(channel);
  await peer.have('send 10 5');
  await peer.have('say last');
  peer.kill();
  await peer.ended;
  const { handles } = await receiveFrom(channel);
  closeEach(handles);
  assert.equal(handles.length, 5);
  assert.equal(await receiveText(channel), 'last');
  await receiveEnd(channel);
  await rejectsCode(() => channel.send('x'), 'EPIPE');
});

// ---------- peers that do not read

hostileTest('a message that waits for a peer that never reads ends with its timeout', async (channel) => {
  using buffer = allocateSync(4096);
  await sendUntilFull(channel);
  await rejectsCode(() => channel.send('x', [buffer], { timeout: 1 }), 'ETIMEDOUT');
});

hostileTest(
  "a message that waits for a peer that never reads ends with its signal's reason",
  async (channel) => {
    using buffer = allocateSync(4096);
    await sendUntilFull(channel);
    const controller = new AbortController();
    const reason = new Error('enough');
    const waiting = channel.send('x', [buffer], { signal: controller.signal });
    controller.abort(reason);
    await assert.rejects(waiting, (error) => error === reason);
  },
);

hostileTest(
  'a message that waits for a peer that never reads ends when the channel is closed',
  async (channel) => {
    using buffer = allocateSync(4096);
    await sendUntilFull(channel);
    const refused = rejectsCode(() => channel.send('x', [buffer]), 'ERR_DMABUF_CLOSED');
    channel.close();
    await refused;
  },
);

hostileTest('a message that was given up never arrives', async (channel, peer) => {
  const sent = await sendUntilFull(channel);
  for (let count = 0; count < 20; count++) {
    await rejectsCode(() => channel.send('given up', [], { timeout: 0 }), 'ETIMEDOUT');
  }
  assert.equal(await peer.ask('drain'), String(sent));
});

hostileTest('messages that wait are all sent once the peer reads', async (channel, peer) => {
  using buffer = allocateSync(4096);
  const sent = await sendUntilFull(channel, [buffer]);
  const waiting = Array.from({ length: 200 }, () => channel.send(new Uint8Array(2000), [buffer]));
  assert.equal(await peer.ask(`read ${sent + 200}`), String(sent + 200));
  await Promise.all(waiting);
});

hostileTest('a peer that is stopped delays messages and loses none', async (channel, peer) => {
  peer.kill('SIGSTOP');
  const sent = await sendUntilFull(channel);
  await rejectsCode(() => channel.receive({ timeout: 1 }), 'ETIMEDOUT');
  const waiting = channel.send('x');
  peer.tell(`read ${sent + 1}`);
  peer.kill('SIGCONT');
  await waiting;
  assert.equal(await peer.line(), String(sent + 1));
});

hostileTest('sending for ever to a peer that never reads needs no more and more memory', async (channel) => {
  using buffer = allocateSync(4096);
  await sendUntilFull(channel);
  const attempt = (): Promise<unknown> =>
    rejectsCode(() => channel.send(new Uint8Array(100_000), [buffer, buffer], { timeout: 0 }), 'ETIMEDOUT');
  const inUse = (): number => {
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  for (let count = 0; count < 50; count++) await attempt();
  const early = inUse();
  const fds = openFds().size;
  for (let count = 0; count < 1000; count++) await attempt();
  // 1000 messages of 100 000 bytes would be 100 MB.
  assert.ok(inUse() - early < 50e6, `${inUse() - early} bytes more`);
  await until(() => openFds().size <= fds); // What is closed a little later is waited for.
});

hostileTest('a message for which there is room is sent, whenever the peer reads', async (channel, peer) => {
  // 60 000 bytes are more than a quarter of what the socket holds, and less than half.
  const limit = { timeout: patience / 4 };
  for (let round = 0; round < 400; round++) {
    await channel.send(new Uint8Array(60_000), [], limit);
    await channel.send('2', [], limit);
    await channel.send('3', [], limit);
    assert.equal(await peer.ask('read 3'), '3', `round ${round}`);
  }
});

// ---------- half of a connection

hostileTest('a peer that sends no more can still be sent to', async (channel, peer) => {
  await peer.have('say last');
  await peer.have('shutdown 1');
  assert.equal(await receiveText(channel), 'last');
  await receiveEnd(channel);
  await channel.send('still there');
  assert.equal(await peer.ask('read 1'), '1');
});

hostileTest('a call that waits for a message ends when the peer sends no more', async (channel, peer) => {
  const waiting = channel.receive({ timeout: patience });
  await peer.have('shutdown 1');
  assert.equal(await waiting, undefined);
});

hostileTest('a peer that receives no more can still be received from', async (channel, peer) => {
  await peer.have('shutdown 0');
  await rejectsCode(() => channel.send('x'), 'EPIPE');
  await peer.have('say still here');
  assert.equal(await receiveText(channel), 'still here');
});

// The kernel tells nobody who waits in epoll(7) that the peer receives no more.
hostileTest(
  'a message that waits for a peer that receives no more ends when that goes',
  async (channel, peer) => {
    await sendUntilFull(channel);
    const refused = rejectsCode(() => channel.send('x', [], { timeout: patience }), 'EPIPE');
    await peer.have('shutdown 0');
    await peer.have('close');
    await refused;
  },
);

hostileTest('a message that waits ends with EPIPE when the peer shuts both down', async (channel, peer) => {
  await sendUntilFull(channel);
  const refused = rejectsCode(() => channel.send('x', [], { timeout: patience }), 'EPIPE');
  await peer.have('shutdown 2');
  await refused;
});

hostileTest('what was sent before both halves were shut down is received', async (channel, peer) => {
  await peer.have('send 10 7');
  await peer.have('shutdown 2');
  const { handles } = await receiveFrom(channel);
  closeEach(handles);
  assert.equal(handles.length, 7);
  await receiveEnd(channel);
  await rejectsCode(() => channel.send('x'), 'EPIPE');
});

hostileTest('empty messages before the end of one half are received', async (channel, peer) => {
  await peer.have('empty 3');
  await peer.have('say x');
  await peer.have('shutdown 1');
  const lengths: (number | undefined)[] = [];
  while (lengths.length < 5) lengths.push((await channel.receive())?.data.length);
  assert.deepEqual(lengths, [0, 0, 0, 1, undefined]);
});

// ---------- this process's other work

hostileTest('a peer that floods does not keep other work from being done', async (channel, peer) => {
  await peer.have('flood 1');
  let turns = 0;
  let running = true;
  const turn = (): void => {
    turns++;
    if (running) setImmediate(turn);
  };
  setImmediate(turn);
  for (let number = 0; number < 5000; number++) closeEach((await receiveFrom(channel)).handles);
  running = false;
  assert.ok(turns >= 5, `the event loop turned ${turns} times in 5000 messages`);
});

hostileTest('another channel works while a peer floods', async (channel, peer) => {
  await peer.have('flood 2');
  const [here, there] = DmaBufChannel.pair();
  using buffer = allocateSync(4096);
  let flooded = 0;
  const drained = (async () => {
    for await (const { handles } of channel) {
      closeEach(handles);
      flooded++;
    }
  })();
  for (let number = 0; number < 200; number++) {
    const received = there.receive();
    await here.send(`${number}`, [buffer]);
    const message = await received;
    closeEach(message?.handles ?? []);
    assert.equal(Buffer.from(message?.data ?? []).toString(), `${number}`);
  }
  here.close();
  there.close();
  peer.kill();
  await drained;
  assert.ok(flooded > 0);
});

// ---------- servers

function serverTest(name: string, body: (server: DmaBufServer, peer: Peer) => Promise<void>): void {
  channelTest(name, async () => {
    using server = DmaBufChannel.listen(join(folder, 'socket'));
    await using peer = new Peer(binary, []);
    await body(server, peer);
  });
}

/** Connects as a peer that means well, and sees that it is served. */
async function serveFriend(server: DmaBufServer): Promise<void> {
  using client = await DmaBufChannel.connect(server.path);
  await client.send('hello');
  using accepted = await server.accept({ timeout: patience });
  assert.equal(await receiveText(accepted), 'hello');
}

serverTest('connections that vanish at once are accepted and end', async (server, peer) => {
  await peer.have(`vanish ${server.path} 300`);
  let farewells = 0;
  for (let number = 0; number < 300; number++) {
    using channel = await server.accept({ timeout: patience });
    for await (const { data, handles } of channel) {
      closeEach(handles);
      assert.deepEqual([Buffer.from(data).toString(), handles.length], ['farewell', 1]);
      farewells++;
    }
    await rejectsCode(() => channel.send('x'), 'EPIPE');
  }
  assert.equal(farewells, 150);
  await serveFriend(server);
});

serverTest('connections that vanish while they are accepted harm no other', async (server, peer) => {
  const vanished = peer.have(`vanish ${server.path} 300`);
  for (let number = 0; number < 300; number++) {
    using channel = await server.accept({ timeout: patience });
    for await (const { handles } of channel) closeEach(handles);
  }
  await vanished;
  await serveFriend(server);
});

serverTest('hundreds of connections that nobody accepts leave the server at work', async (server, peer) => {
  assert.equal(await peer.ask(`connect ${server.path} 900`), '900');
  for (let number = 0; number < 900; number++) (await server.accept({ timeout: patience })).close();
  await serveFriend(server);
});

serverTest('a server closes with hundreds of connections that nobody accepted', async (server, peer) => {
  assert.equal(await peer.ask(`connect ${server.path} 900`), '900');
  server.close();
  assert.equal(existsSync(server.path), false);
  await rejectsCode(() => DmaBufChannel.connect(server.path), 'ENOENT');
});

serverTest('who connects while others fill the queue is served in turn', async (server, peer) => {
  const limit = Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'));
  const taken = Number(await peer.ask(`connect ${server.path} ${limit + 500}`));
  assert.ok(taken < limit + 500, 'the queue was not full');
  const connecting = DmaBufChannel.connect(server.path, { timeout: patience });
  for (let number = 0; number < taken; number++) (await server.accept({ timeout: patience })).close();
  using client = await connecting;
  using accepted = await server.accept({ timeout: patience });
  assert.equal(accepted.peer.pid, process.pid);
  await client.send('hello');
  assert.equal(await receiveText(accepted), 'hello');
});

serverTest('a connection that waits behind a full queue ends with its timeout', async (server, peer) => {
  const limit = Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'));
  await peer.ask(`connect ${server.path} ${limit + 500}`);
  await rejectsCode(() => DmaBufChannel.connect(server.path, { timeout: 1 }), 'ETIMEDOUT');
});

// ---------- no descriptors left

/** A Node of its own at our end, which reports what it receives. */
class Receiver implements AsyncDisposable {
  readonly peer: Peer;

  constructor(peer: Peer) {
    this.peer = peer;
  }

  async next(): Promise<Reported> {
    return JSON.parse(await this.peer.line()) as Reported;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.peer[Symbol.asyncDispose]();
  }
}

function startReceiver(channel: DmaBufChannel, options: ReceiverOptions = {}, limit?: number): Receiver {
  const args = [JSON.stringify(options)];
  if (limit === undefined) return new Receiver(nodePeer('channel-receiver', args, channel));
  const shell = [
    '-ec',
    `ulimit -n ${limit}; exec "$@"`,
    'sh',
    process.execPath,
    programFile('channel-receiver'),
  ];
  return new Receiver(new Peer('sh', [...shell, ...args], channel));
}

function receiverTest(
  name: string,
  options: ReceiverOptions,
  limit: number | undefined,
  body: (receiver: Receiver, peer: Peer) => Promise<void>,
): void {
  channelTest(name, async () => {
    const [here, there] = DmaBufChannel.pair();
    await using receiver = startReceiver(here, options, limit);
    here.close();
    await using peer = new Peer(binary, [], there);
    there.close();
    assert.equal((await receiver.next()).text, 'ready');
    await body(receiver, peer);
  });
}

receiverTest(
  'messages with more descriptors than may be opened leave none open',
  {},
  64,
  async (receiver, peer) => {
    const whole = { text: 'xxx', length: 3, kinds: ['DmaBuf', 'number'] };
    await peer.have('send 3 2');
    const { fds: before, ...first } = await receiver.next();
    assert.deepEqual(first, whole);
    for (let round = 0; round < 40; round++) {
      await peer.have('send 100 253');
      assert.equal((await receiver.next()).error, 'ERR_DMABUF_MESSAGE_TRUNCATED');
    }
    // What is closed a little later is waited for.
    for (let round = 0; ; round++) {
      await peer.have('send 3 2');
      const { fds, ...last } = await receiver.next();
      assert.deepEqual(last, whole);
      if (fds <= before) break;
      assert.ok(round < 50, `${fds} descriptors are open, ${before} were`);
    }
  },
);

for (const [fds, kind] of [
  [2, 'a dma-buf'],
  [1, 'a dma-buf'],
  [1, 'an eventfd'],
] as const) {
  receiverTest(
    `${kind} among the ${fds} descriptors that fit exactly arrives, or is an error that the documentation names`,
    { free: fds },
    64,
    async (receiver, peer) => {
      await peer.have(fds === 1 ? `kind ${kind}` : `send 1 ${fds}`);
      const { error, kinds: received } = await receiver.next();
      if (error === undefined) assert.equal(received?.[0], kind === 'a dma-buf' ? 'DmaBuf' : 'number');
      else assert.equal(error, 'ERR_DMABUF_MESSAGE_TRUNCATED');
      await peer.have('say next');
      assert.equal((await receiver.next()).text, 'next');
    },
  );
}

// ---------- a file system whose server does not answer

const noFuse: string | false = notRoot || (existsSync('/dev/fuse') ? false : 'the module fuse is not loaded');

/** FUSE_STATFS of <linux/fuse.h>, as silent-fuse.c tells it. */
const statfsRequest = '!17';

/** Runs `fn` with a process that opens and sends files of such a file system of `user`'s, and our end of its channel. */
async function withSilentFiles(
  user: number,
  fn: (fuse: Peer, here: DmaBufChannel) => Promise<void>,
): Promise<void> {
  const mount = new MountPoint(folder);
  const [here, there] = DmaBufChannel.pair();
  const fuse = new Peer(compiled('silent-fuse'), [mount.path, String(user)], there);
  there.close();
  try {
    assert.equal(await fuse.line(), 'mounted', fuse.errors);
    await fn(fuse, here);
  } finally {
    // Without its server the file system fails at once, and lets everybody go.
    fuse.kill();
    await fuse.ended;
    here.close();
    mount.remove();
  }
}

/** A test with such a process and a Node of its own that receives, in case that this one should wait for ever. */
function silentTest(
  name: string,
  { user = 0, ...options }: ReceiverOptions & { user?: number },
  body: (receiver: Receiver, fuse: Peer) => Promise<void>,
): void {
  channelTest(
    name,
    async () => {
      let receiver: Receiver | undefined;
      await withSilentFiles(user, async (fuse, here) => {
        receiver = startReceiver(here, { keep: true, ...options });
        here.close();
        assert.equal((await receiver.next()).text, 'ready');
        await body(receiver, fuse);
        await fuse.have('say next');
        assert.equal((await receiver.next()).text, 'next');
      }).finally(() => receiver?.[Symbol.asyncDispose]());
    },
    noFuse,
  );
}

for (const what of ['folder', 'file']) {
  channelTest(
    `fstatfs of a ${what} of a file system that does not answer never returns`,
    () =>
      withSilentFiles(0, async (fuse, here) => {
        // Not by way of this process: if it had the file, it could not even start another any more.
        await using asker = new Peer(binary, [], here);
        here.close();
        asker.tell('fstatfs');
        await fuse.have(`send 4 ${what}`);
        assert.equal(await asker.line(), 'asking');
        assert.equal(await fuse.event(), statfsRequest);
        asker.kill();
        fuse.kill(); // Until then the asker cannot even be killed.
        assert.equal(await asker.ended, 'SIGKILL');
        assert.deepEqual(asker.unread, []);
      }),
    noFuse,
  );

  silentTest(`such a ${what} arrives and is asked nothing`, {}, async (receiver, fuse) => {
    await fuse.have(`send 4 ${what}`);
    const { text, kinds: received } = await receiver.next();
    assert.deepEqual([text, received], ['xxxx', ['number']]);
    assert.deepEqual(fuse.unread, []);
  });

  silentTest(
    `such a ${what} of another user's, which one may not even ask, arrives`,
    { user: 1000 },
    async (receiver, fuse) => {
      await fuse.have(`send 4 ${what}`);
      const { text, kinds: received, error } = await receiver.next();
      assert.deepEqual([text, received, error], ['xxxx', ['number'], undefined]);
    },
  );

  silentTest(
    `a message that is too large with such a ${what} is an error`,
    { maxMessageSize: 10_000 },
    async (receiver, fuse) => {
      await fuse.have(`send 10001 ${what} ${what}`);
      assert.equal((await receiver.next()).error, 'ERR_DMABUF_MESSAGE_TRUNCATED');
    },
  );

  silentTest(`importFrom says that such a ${what} is no dma-buf`, {}, async (receiver, fuse) => {
    const where = await fuse.ask(`open ${what}`);
    await fuse.have(`say import ${where}`);
    assert.equal((await receiver.next()).error, 'ERR_DMABUF_NOT_DMABUF');
  });

  silentTest(
    `a message with such a ${what} that waits to be sent on can be given up`,
    {},
    async (receiver, fuse) => {
      await fuse.have(`with forward ${what}`);
      assert.equal((await receiver.next()).error, 'ETIMEDOUT');
    },
  );
}
