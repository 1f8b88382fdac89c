// In whatever sizes the bytes are sent, kept and received, every descriptor arrives with its byte, and in order.

import assert from 'node:assert/strict';
import { closeSync, fstatSync } from 'node:fs';
import type { FdStream, Sendable } from 'dmabuf';
import fc from 'fast-check';
import { turn } from './event-loop.js';
import { closeEach } from './handles.js';
import { makeMemfd } from './memfds.js';
import { adoptedPair, inodeOf, takeAll } from './streams.js';

/** The byte at each position of a stream, so that none is taken for its neighbour. */
const period = 65_521;
const pattern = Buffer.alloc(2 * period);
for (let index = 0; index < pattern.length; index++) pattern[index] = ((index % period) * 167) >>> 3;

function bytesAt(offset: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let done = 0; done < length; ) {
    done += pattern.copy(bytes, done, (offset + done) % period, ((offset + done) % period) + length - done);
  }
  return bytes;
}

/** What a sender sends again and again. */
interface Step {
  how: 'send' | 'write';
  bytes: number;
  handles: number;
  /** Whether the sender waits for it. */
  waits: boolean;
}

const steps = fc.array(
  fc.record({
    how: fc.constantFrom('send' as const, 'send' as const, 'write' as const),
    bytes: fc.oneof(
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 1, max: 2000 }),
      fc.integer({ min: 1, max: 150_000 }),
    ),
    handles: fc.oneof(
      { weight: 3, arbitrary: fc.constant(0) },
      { weight: 3, arbitrary: fc.integer({ min: 1, max: 4 }) },
      { weight: 1, arbitrary: fc.integer({ min: 1, max: 253 }) },
    ),
    waits: fc.boolean(),
  }),
  { minLength: 1, maxLength: 8 },
);

const readers = ['receive', 'data', 'iterate', 'readable', 'parts'] as const;

/** The least that is sent in a run. */
interface Volume {
  bytes: number;
  handles: number;
}

/** What has been sent: with which byte each descriptor goes, and of which file it is. */
interface Sent {
  bytes: number;
  handles: number;
  /** Not received yet, in order. */
  expected: { at: number; inode: number; message: number }[];
}

async function send(
  stream: FdStream,
  plan: readonly Step[],
  files: readonly number[],
  sent: Sent,
  volume: Volume,
): Promise<void> {
  const hasHandles = plan.some(({ how, handles }) => how === 'send' && handles > 0);
  const inodes = files.map((fd) => fstatSync(fd).ino);
  let message = 0;
  const pending: Promise<void>[] = [];
  while (sent.bytes < volume.bytes || (hasHandles && sent.handles < volume.handles)) {
    for (const { how, waits, ...step } of plan) {
      // What is left to be sent of the one must not take much of the other.
      const handles = sent.handles < 2 * volume.handles ? step.handles : 0;
      const bytes = handles < step.handles ? Math.max(step.bytes, 5000) : step.bytes;
      const data = bytesAt(sent.bytes, bytes);
      if (how === 'write') {
        const hasRoom = stream.write(data);
        sent.bytes += bytes;
        if (!hasRoom && waits) await new Promise<void>((resolve) => void stream.once('drain', resolve));
        continue;
      }
      const chosen = Array.from(
        { length: handles },
        (_, index) => (sent.handles + index * index) % files.length,
      );
      for (const file of chosen) {
        sent.expected.push({ at: sent.bytes, inode: inodes[file] as number, message });
      }
      message++;
      sent.bytes += bytes;
      sent.handles += handles;
      const sending = stream.send(
        data,
        chosen.map((file) => files[file] as number),
      );
      if (waits) await sending;
      else pending.push(sending);
    }
    await Promise.all(pending.splice(0));
  }
  stream.end();
}

/** Checks what has arrived, and returns how many bytes have arrived so far. */
function check(sent: Sent, before: number, data: Uint8Array, handles: readonly Sendable[]): number {
  assert.equal(Buffer.compare(data, bytesAt(before, data.length)), 0, `bytes at ${before}`);
  const arrived = handles.map(inodeOf);
  closeEach(handles);
  assert.deepEqual(
    arrived,
    sent.expected.splice(0, arrived.length).map(({ inode }) => inode),
    `descriptors at ${before}`,
  );
  return before + data.length;
}

/** Receives everything by what `receive()` promises: each descriptor with its byte, and never those of two messages. */
async function receiveAll(stream: FdStream, sent: Sent): Promise<number> {
  for (let received = 0; ; ) {
    const message = await stream.receive();
    if (message === undefined) return received;
    const { data, handles } = message;
    const own = sent.expected.filter(({ at }) => at < received + data.length);
    assert.equal(handles.length, own.length, `descriptors with the bytes from ${received}`);
    assert.ok(own.every(({ at }) => at >= received));
    assert.ok(new Set(own.map((one) => one.message)).size <= 1, 'descriptors of two messages at once');
    received = check(sent, received, data, handles);
    if (received % 3 === 0) await turn();
  }
}

/** The same as a Duplex: no descriptor later than its byte. `parts`: as a reader of whole messages takes them. */
async function readAll(
  stream: FdStream,
  sent: Sent,
  how: Exclude<(typeof readers)[number], 'receive'>,
): Promise<number> {
  let received = 0;
  const take = (data: Buffer): void => {
    received = check(sent, received, data, takeAll(stream));
    const next = sent.expected[0]?.at ?? Number.POSITIVE_INFINITY;
    assert.ok(next >= received, `the descriptor at ${next} is late: ${received} bytes have come`);
  };
  if (how === 'iterate') {
    for await (const chunk of stream) {
      take(chunk as Buffer);
      if (received % 3 === 0) await turn();
    }
    return received;
  }
  return await new Promise((resolve, reject) => {
    const guarded = (data: Buffer): void => {
      try {
        take(data);
      } catch (error) {
        stream.destroy(error as Error);
      }
    };
    if (how === 'data') stream.on('data', guarded);
    else if (how === 'parts') {
      let size = 1;
      stream.on('readable', () => {
        for (let chunk = stream.read(size); chunk !== null; chunk = stream.read(size)) {
          guarded(chunk);
          size = 1 + ((size * 7) % 3001);
        }
      });
    } else {
      stream.on('readable', () => {
        for (let chunk = stream.read(); chunk !== null; chunk = stream.read()) guarded(chunk);
      });
    }
    stream.on('error', reject);
    stream.on('end', () => resolve(received));
  });
}

/** Sends so much in all, in so many runs; returns how much was sent. */
export async function checkFlow(least: Volume, runs: number): Promise<Volume> {
  const files = Array.from({ length: 40 }, () => makeMemfd({}));
  const total = { bytes: 0, handles: 0 };
  const volume = { bytes: least.bytes / runs, handles: least.handles / runs };
  const property = fc.asyncProperty(
    steps,
    fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 300_000 })),
    fc.constantFrom(...readers),
    fc.oneof(fc.constant(undefined), fc.integer({ min: 0, max: 200_000 })),
    async (plan, sendBuffer, reader, highWaterMark) => {
      const [here, there] = adoptedPair(sendBuffer, { highWaterMark });
      const sent: Sent = { bytes: 0, handles: 0, expected: [] };
      try {
        const reading = reader === 'receive' ? receiveAll(there, sent) : readAll(there, sent, reader);
        const [received] = await Promise.all([reading, send(here, plan, files, sent, volume)]);
        assert.deepEqual([received, sent.expected.length], [sent.bytes, 0]);
      } finally {
        here.destroy();
        there.destroy();
      }
      total.bytes += sent.bytes;
      total.handles += sent.handles;
    },
  );
  try {
    await fc.assert(property, { numRuns: runs });
  } finally {
    for (const fd of files) closeSync(fd);
  }
  return total;
}
