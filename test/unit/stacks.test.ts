import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { allocate, DmaBufChannel, DmaBufError, setHandleTracking } from 'dmabuf';
import { snapshot } from 'dmabuf/inspect';
import { unsound } from '../support/expect.js';

const formats: Record<string, typeof Error.prepareStackTrace> = {
  'the frames': (_error, frames) => frames,
  'an object': () => ({ frames: [] }),
  'a number': () => 5,
  null: () => null,
  undefined: () => undefined,
  'no text': () => '',
  'an object that throws when it is looked at': () => new Proxy({}, { get: () => assert.fail('mine') }),
  'an error of its own': () => {
    throw new Error('mine');
  },
};

/** Calls that fail later than they are made. */
const failures: Record<string, [call: () => Promise<unknown>, code: string]> = {
  allocate: [() => allocate(4096, { from: 'no-such-heap' }), 'ERR_DMABUF_NO_SOURCE'],
  snapshot: [() => snapshot({ source: 'sysfs' }), 'ERR_DMABUF_UNSUPPORTED_KERNEL'],
  receive: [
    async () => {
      const [here, there] = DmaBufChannel.pair();
      try {
        await here.receive({ timeout: 1 });
      } finally {
        here.close();
        there.close();
      }
    },
    'ETIMEDOUT',
  ],
  'receive of a channel that is closed': [
    async () => {
      const [here, there] = DmaBufChannel.pair();
      const outcome = here.receive();
      here.close();
      there.close();
      await outcome;
    },
    'ERR_DMABUF_CLOSED',
  ],
};

async function failsWith(call: () => Promise<unknown>, code: string): Promise<void> {
  const [outcome] = await Promise.allSettled([call()]);
  const { prepareStackTrace } = Error;
  Error.prepareStackTrace = unsound(undefined);
  const error: unknown = (outcome as PromiseRejectedResult).reason;
  Error.prepareStackTrace = prepareStackTrace;
  assert.ok(error instanceof DmaBufError);
  assert.equal(error.code, code);
}

for (const [name, [call, code]] of Object.entries(failures)) {
  describe(`${name} rejects with its error`, () => {
    afterEach(() => {
      Error.prepareStackTrace = unsound(undefined);
      Error.stackTraceLimit = 10;
      setHandleTracking(false);
    });

    for (const [what, format] of Object.entries(formats)) {
      test(`where stacks are formatted as ${what}`, async () => {
        Error.prepareStackTrace = format;
        await failsWith(call, code);
      });

      test(`where handles are tracked and stacks are formatted as ${what}`, async () => {
        Error.prepareStackTrace = format;
        setHandleTracking(true);
        await failsWith(call, code);
      });
    }

    test('where stacks have no frames', async () => {
      Error.stackTraceLimit = 0;
      await failsWith(call, code);
    });

    test('where Error can capture no stacks any more', async () => {
      const { captureStackTrace } = Error;
      Error.captureStackTrace = () => assert.fail('mine');
      try {
        await failsWith(call, code);
      } finally {
        Error.captureStackTrace = captureStackTrace;
      }
    });
  });
}

test('where stacks are formatted as frames, an error has those of its call', async () => {
  const { captureStackTrace } = Error;
  assert.ok(captureStackTrace);
  Error.prepareStackTrace = (_error, frames) => frames;
  async function namedCaller(): Promise<void> {
    await allocate(4096, { from: 'no-such-heap' });
  }
  try {
    const error: unknown = await namedCaller().catch((reason: unknown) => reason);
    const frames = (error as DmaBufError).stack as unknown as NodeJS.CallSite[];
    assert.ok(frames.some((frame) => frame.getFunctionName() === 'namedCaller'));
  } finally {
    Error.prepareStackTrace = unsound(undefined);
  }
});
