import assert from 'node:assert/strict';
import { DmaBufChannel } from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import { until } from '../../../support/event-loop.js';
import { makeMarked, receiveMany, sendMany } from '../../../support/many-messages.js';
import { kernelHas, noKernelList } from '../../../support/observe.js';
import { nodePeer, receiveText } from '../../../support/peers.js';
import type { ManyOptions, ManyReport } from '../../../support/programs/channel-many.js';

// Two processes of Node and many messages between them. DMABUF_TEST_MESSAGES: how many; more find rarer faults, and
// take longer than a quick run of the tests should.

const count = Number(process.env.DMABUF_TEST_MESSAGES ?? 500);

/** Runs both sides; all buffers, of either, must be gone afterwards, and all descriptors. */
async function exchange(
  options: ManyOptions,
  fn: (channel: DmaBufChannel) => Promise<unknown>,
): Promise<void> {
  const [here, there] = DmaBufChannel.pair();
  using channel = here;
  await using peer = nodePeer('channel-many', [JSON.stringify(options)], there);
  there.close();
  assert.equal(await peer.line(), 'ready');
  await fn(channel);
  assert.equal(await receiveText(channel), 'done');
  const { before, after, inodes } = JSON.parse(await peer.line()) as ManyReport;
  channel.close();
  assert.equal(await peer.ended, 0, peer.errors);
  assert.equal(after, before);
  await until(() => !inodes.some(kernelHas));
}

/** Sends marked buffers; nobody else may hold them in the end, and the kernel must forget them once they are closed. */
async function sendOwn(channel: DmaBufChannel, seed: number, messages: number): Promise<void> {
  const buffers = makeMarked();
  const inodes = buffers.map(({ inode }) => inode);
  const references = buffers.map((buffer) => buffer.info().references);
  await sendMany(channel, buffers, seed, messages);
  await until(() => buffers.every((buffer, index) => buffer.info().references === references[index]));
  for (const buffer of buffers) buffer.close();
  await until(() => !inodes.some(kernelHas));
}

channelTest(
  `${count} messages with buffers arrive in another process in order, whole, and leave nothing behind`,
  () => exchange({ receive: { seed: 1, count } }, (channel) => sendOwn(channel, 1, count)),
  noKernelList,
);

channelTest(
  `${count} messages with buffers come from another process in order, whole, and leave nothing behind`,
  () => exchange({ send: { seed: 2, count } }, (channel) => receiveMany(channel, 2, count)),
  noKernelList,
);

channelTest(
  `${count} messages with buffers go both ways at once, in order, whole, and leave nothing behind`,
  () => {
    const half = Math.ceil(count / 2);
    return exchange({ receive: { seed: 3, count: half }, send: { seed: 4, count: half } }, (channel) =>
      Promise.all([sendOwn(channel, 3, half), receiveMany(channel, 4, half)]),
    );
  },
  noKernelList,
);
