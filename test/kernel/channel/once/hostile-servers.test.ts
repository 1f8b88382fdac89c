import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { DmaBufChannel, type DmaBufServer } from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import { compiled } from '../../../support/compiled.js';
import { rejectsCode } from '../../../support/expect.js';
import { closeEach } from '../../../support/handles.js';
import { hasKernel } from '../../../support/kernel-test.js';
import { MountPoint } from '../../../support/mount-point.js';
import { notRoot } from '../../../support/needs.js';
import { nodePeer, Peer, patience, programFile, receiveText } from '../../../support/peers.js';
import type { ReceiverOptions, Reported } from '../../../support/programs/channel-receiver.js';

let folder = '';

before(() => {
  if (!hasKernel) return;
  folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
  chmodSync(folder, 0o755);
});

after(() => {
  if (folder !== '') rmSync(folder, { recursive: true });
});

// ---------- servers

function serverTest(name: string, body: (server: DmaBufServer, peer: Peer) => Promise<void>): void {
  channelTest(name, async () => {
    using server = DmaBufChannel.listen(join(folder, 'socket'));
    await using peer = new Peer(compiled('hostile-peer'), []);
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
    await using peer = new Peer(compiled('hostile-peer'), [], there);
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
        // Not through this process: if it had the file, it could no longer even start another process.
        await using asker = new Peer(compiled('hostile-peer'), [], here);
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
