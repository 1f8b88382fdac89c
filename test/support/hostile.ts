import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { type ChannelOptions, DmaBufChannel } from 'dmabuf';
import { channelTest } from './channel-test.js';
import { compiled } from './compiled.js';
import { Peer, patience } from './peers.js';

// Peers that mean harm, as processes of their own: hostile-peer.c does what it is told. Whatever they do costs this side
// an error at most.

export type HostileBody = (channel: DmaBufChannel, peer: Peer, t: TestContext) => Promise<void>;

/** A test with a hostile peer at the other end of a channel. */
export function hostileTest(
  name: string,
  body: HostileBody,
  { unless = false, ...options }: ChannelOptions & { unless?: string | false } = {},
): void {
  channelTest(
    name,
    async (t) => {
      const [here, there] = DmaBufChannel.pair(options);
      using channel = here;
      await using peer = new Peer(compiled('hostile-peer'), [], there);
      there.close();
      await body(channel, peer, t);
    },
    unless,
  );
}

/** xorshift32, as in channel.h. */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

export async function receiveEnd(channel: DmaBufChannel): Promise<void> {
  assert.equal(await channel.receive({ timeout: patience }), undefined);
}
