// DMABUF_TEST_STREAM_BYTES and DMABUF_TEST_STREAM_HANDLES set how much in all: the test was designed for 1e9 and 1e5.

import { test } from 'node:test';
import { leavesNothing } from '../support/descriptors.js';
import { turns } from '../support/event-loop.js';
import { checkFlow } from '../support/stream-flow.js';

const bytes = Number(process.env.DMABUF_TEST_STREAM_BYTES ?? 3e7);
const handles = Number(process.env.DMABUF_TEST_STREAM_HANDLES ?? 3000);

test('every descriptor arrives with its byte, and no byte is lost', async (t) => {
  await checkFlow({ bytes: 1, handles: 1 }, 1); // Makes what is made only once.
  const sent = await leavesNothing(async () => {
    const total = await checkFlow({ bytes, handles }, 30);
    await turns();
    return total;
  });
  t.diagnostic(`${sent.bytes} bytes with ${sent.handles} descriptors`);
});
