import assert from 'node:assert/strict';
import { fstatSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { type ChannelMessage, FdStream, type FdStreamOptions, type Sendable } from 'dmabuf';
import { channelTest } from './channel-test.js';
import { compiled } from './compiled.js';
import { closeEach } from './handles.js';
import { fdOf } from './messages.js';
import { Peer, patience } from './peers.js';
import { ForeignSocket } from './sockets.js';

/** Two ends for `using`. */
export class StreamPair implements Disposable {
  readonly here: FdStream;
  readonly there: FdStream;

  constructor(options?: FdStreamOptions) {
    [this.here, this.there] = FdStream.pair(options);
  }

  [Symbol.dispose](): void {
    this.here.destroy();
    this.there.destroy();
  }
}

/** Two ends of a connection that a foreign program has made; what this end sends is kept in so many bytes of memory. */
export function adoptedPair(sendBuffer: number, options?: FdStreamOptions): [FdStream, FdStream] {
  const [one, other] = ForeignSocket.pair('stream');
  one.setOption('sendBuffer', sendBuffer);
  const ends: [FdStream, FdStream] = [FdStream.adopt(one.fd, options), FdStream.adopt(other.fd, options)];
  one.release();
  other.release();
  return ends;
}

/** A stream, and the foreign program at its other end. */
export class ForeignStream implements Disposable {
  readonly stream: FdStream;
  readonly peer: ForeignSocket;

  constructor(options?: FdStreamOptions) {
    const [own, peer] = ForeignSocket.pair('stream');
    this.stream = FdStream.adopt(own.fd, options);
    own.release();
    this.peer = peer;
  }

  [Symbol.dispose](): void {
    this.stream.destroy();
    this.peer.close();
  }
}

/** What arrives next. It must be there, or arrive later. */
export async function nextBytes(stream: FdStream): Promise<ChannelMessage> {
  const message = await stream.receive({ timeout: patience });
  assert.ok(message, 'the peer has ended');
  return message;
}

/** The same as text. It must bring no handles. */
export async function nextBytesAsText(stream: FdStream): Promise<string> {
  const { data, handles } = await nextBytes(stream);
  assert.equal(handles.length, 0);
  return Buffer.from(data).toString();
}

/** Everything until the end by `receive()`: the bytes as text, and how many descriptors came. */
export async function allBytes(stream: FdStream): Promise<[string, number]> {
  let text = '';
  let count = 0;
  for (;;) {
    const message = await stream.receive({ timeout: patience });
    if (message === undefined) return [text, count];
    text += Buffer.from(message.data).toString('latin1');
    count += message.handles.length;
    closeEach(message.handles);
  }
}

/** Takes every descriptor that is there. */
export function takeAll(stream: FdStream): Sendable[] {
  const handles: Sendable[] = [];
  for (let handle = stream.takeHandle(); handle !== undefined; handle = stream.takeHandle())
    handles.push(handle);
  return handles;
}

/** The error that destroys a stream. */
export function failure(stream: FdStream): Promise<NodeJS.ErrnoException> {
  return new Promise((resolve) => void stream.once('error', resolve));
}

export function closed(stream: FdStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.closed) resolve();
    else stream.once('close', resolve);
  });
}

/** Writes until the socket is full, and a little more waits. Returns how many bytes were written. */
export async function fillStream(stream: FdStream): Promise<number> {
  let bytes = 0;
  for (const filler = Buffer.alloc(16 * 1024, 'x'); stream.write(filler); ) bytes += filler.length;
  return bytes + 16 * 1024;
}

export const inodeOf = (handle: Sendable): number => fstatSync(fdOf(handle)).ino;

export type HostileStreamBody = (stream: FdStream, peer: Peer, t: TestContext) => Promise<void>;

/** A test with hostile-peer.c at the other end of a stream. */
export function hostileStreamTest(
  name: string,
  body: HostileStreamBody,
  { unless = false, ...options }: FdStreamOptions & { unless?: string | false } = {},
): void {
  channelTest(
    name,
    async (t) => {
      const [stream, there] = FdStream.pair(options);
      await using peer = new Peer(compiled('hostile-peer'), [], there.fd);
      there.destroy();
      try {
        await body(stream, peer, t);
      } finally {
        stream.destroy();
      }
    },
    unless,
  );
}
