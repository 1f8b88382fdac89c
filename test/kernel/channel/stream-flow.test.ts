import { channelTest } from '../../support/channel-test.js';
import { checkFlow } from '../../support/stream-flow.js';

// A small part of what test/unit/stream-flow.test.ts does, on every kernel.
channelTest('every descriptor arrives with its byte, and no byte is lost', async (t) => {
  const { bytes, handles } = await checkFlow({ bytes: 1e6, handles: 100 }, 5);
  t.diagnostic(`${bytes} bytes with ${handles} descriptors`);
});
