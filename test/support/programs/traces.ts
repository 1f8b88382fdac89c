// Sends a message to itself. DMABUF_TEST_WHAT: 'throws' has every event of the tracing channel end in an error; 'lacks' takes
// tracing channels away, as in a runtime that has none.

import diagnostics from 'node:diagnostics_channel';
import { report } from '../programs.js';
import { traceEvents } from '../traces.js';

const uncaught: string[] = [];
process.on('uncaughtException', ({ message }) => uncaught.push(message));

const manner = process.env.DMABUF_TEST_WHAT;
if (manner === 'lacks') Object.assign(diagnostics, { tracingChannel: undefined });
for (const event of manner === 'throws' ? traceEvents : []) {
  diagnostics.subscribe(`tracing:dmabuf:send:${event}`, () => {
    throw new Error(`thrown at ${event}`);
  });
}

const { DmaBufChannel } = await import('dmabuf');
const [here, there] = DmaBufChannel.pair();
await here.send('x');
const received = (await there.receive())?.data.length;
there.close();
const { code } = (await here.send('x').catch((error: unknown) => error)) as { code?: string };
here.close();
setImmediate(() => report({ received, code, uncaught }));
