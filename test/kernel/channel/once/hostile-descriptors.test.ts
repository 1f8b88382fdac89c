import assert from 'node:assert/strict';
import { readlinkSync } from 'node:fs';
import { after, before } from 'node:test';
import { DmaBuf, DmaBufChannel, type Sendable, SyncFile } from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import { compiled } from '../../../support/compiled.js';
import { asNumber, closeEach, kindOf } from '../../../support/handles.js';
import { hasKernel } from '../../../support/kernel-test.js';
import { Peer, receiveFrom } from '../../../support/peers.js';

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
  sender = { channel, peer: new Peer(compiled('hostile-peer'), [], there) };
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
