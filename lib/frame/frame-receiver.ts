import { bufferOf, type DmaBuf, isDmaBuf } from '../buffer/dma-buf.js';
import { type DmaBufChannel, isChannel } from '../channel/channel.js';
import { type ChannelMessage, closeHandles, type Sendable } from '../channel/message.js';
import { invalidType } from '../check.js';
import { DmaBufError } from '../errors.js';
import { isSyncFile, type SyncFile } from '../fence/sync-file.js';
import { apply, isInteger } from '../intrinsics.js';
import { brand } from '../open-file.js';
import { markUncloneable, showDetails } from '../present.js';
import type { WaitOptions } from '../wait.js';
import {
  decodeFrame,
  encodeReturn,
  type FrameMessage,
  mostBuffers,
  type NamedPlane,
} from './frame-message.js';
import { type KeptBuffer, KeptBuffers } from './kept-buffers.js';
import type { FramePlane } from './planes.js';
import { type Holding, handOut, type ReceivedFrame } from './received-frame.js';

/** Returned frames of which the sender has taken no notice so far; one that reads has far fewer. */
const mostReturns = 256;

const { parse } = JSON;

/** What the peer sent is no message of a frame. */
export function protocolError(what: string): DmaBufError {
  return new DmaBufError(`ERR_DMABUF_PROTOCOL: ${what}; the channel was closed`, {
    code: 'ERR_DMABUF_PROTOCOL',
    hint: 'Have a FrameSender at one end of the channel and a FrameReceiver at the other, and nobody else send on it',
  });
}

/** What the sender has told of a frame; undefined where it is no JSON. */
function metadataOf({ metadata }: FrameMessage): { value: unknown } | undefined {
  if (metadata === undefined) return { value: undefined };
  try {
    return { value: parse(Buffer.from(metadata).toString()) };
  } catch {
    return undefined;
  }
}

/** Closes what came with a message. */
export function closeQuietly(handles: readonly Sendable[]): void {
  try {
    closeHandles(handles);
  } catch {
    // What can be closed is.
  }
}

/** The handles of a message by what they are for. */
interface Introduced {
  /** By the place of the plane; undefined where the buffer is known. */
  buffers: (DmaBuf | undefined)[];
  ready: SyncFile | undefined;
}

/** Undefined where they are others than the message says. */
function sort(
  { planes, introduced, hasReady }: FrameMessage,
  handles: readonly Sendable[],
): Introduced | undefined {
  const buffers: (DmaBuf | undefined)[] = [];
  let next = 0;
  for (let index = 0; index < planes.length; index++) {
    buffers[index] = undefined;
    if ((introduced & (1 << index)) === 0) continue;
    const handle = handles[next++];
    if (!isDmaBuf(handle)) return undefined;
    buffers[index] = handle;
  }
  const last = hasReady ? handles[next++] : undefined;
  if (next !== handles.length || (hasReady && !isSyncFile(last))) return undefined;
  return { buffers, ready: last as SyncFile | undefined };
}

function isAmong(id: number, list: readonly number[]): boolean {
  for (let index = 0; index < list.length; index++) if (list[index] === id) return true;
  return false;
}

/**
 * Receives the frames that a {@link FrameSender} sends over a channel. It keeps their buffers, and the mappings of their
 * bytes, for the frames to come: a buffer's descriptor travels once.
 *
 * @example
 * using receiver = new FrameReceiver(await DmaBufChannel.connect('/run/camera.sock'));
 * for await (const frame of receiver) {
 *   await frame.planes[0].buffer.withCpuAccess('read', (bytes) => look(bytes));
 *   frame.release();
 * }
 */
export class FrameReceiver implements Disposable, AsyncIterable<ReceivedFrame> {
  static {
    showDetails(FrameReceiver.prototype, 'FrameReceiver');
  }

  readonly #channel: DmaBufChannel;
  readonly #kept = new KeptBuffers();
  readonly #giveBack = (holding: Holding): void => this.#takeBack(holding);
  #last = -1;
  #held = 0;
  #returning = 0;

  /**
   * Takes the channel over: nobody else may send or receive on it, and `close()` closes it.
   *
   * @throws TypeError `ERR_INVALID_ARG_TYPE`
   */
  constructor(channel: DmaBufChannel) {
    if (!isChannel(channel)) throw invalidType('channel', 'a DmaBufChannel', channel);
    this.#channel = channel;
    markUncloneable?.(this);
  }

  static readonly #of = brand('FrameReceiver', (self) => (#kept in self ? self : undefined));

  /** Whether the channel is closed. */
  get closed(): boolean {
    return FrameReceiver.#of(this).#channel.closed;
  }

  /**
   * The next frame; `undefined` when the sender is gone. Calls are served in order. Return each frame by `release()`: the
   * sender does not go beyond its window.
   *
   * @throws DmaBufError `ERR_DMABUF_PROTOCOL` for what is no frame; the channel is closed then. Or what
   *   {@link DmaBufChannel.receive} throws
   */
  async receive(options?: WaitOptions): Promise<ReceivedFrame | undefined> {
    const message = await FrameReceiver.#of(this).#channel.receive(options);
    return message === undefined ? undefined : this.#accept(message);
  }

  /**
   * Frames until the sender is gone or the receiver is closed. Leaving the loop leaves the receiver open.
   *
   * @throws DmaBufError what {@link FrameReceiver.receive} rejects with
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<ReceivedFrame, void, undefined> {
    FrameReceiver.#of(this);
    for (;;) {
      const frame = await apply(FrameReceiver.prototype.receive, this, []);
      if (frame === undefined) return;
      yield frame;
    }
  }

  /**
   * Closes the channel, which returns all frames to the sender, and the buffers that no frame uses. The buffers of frames
   * that are still held are closed when these are released. Does nothing the second time.
   */
  close(): void {
    FrameReceiver.#of(this).#end();
  }

  /** The receiver's figures, for logs and as JSON. */
  toJSON(): object {
    const { closed, peer } = FrameReceiver.#of(this).#channel;
    return { type: 'FrameReceiver', peer, buffers: this.#kept.length, held: this.#held, closed };
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    apply(FrameReceiver.prototype.close, this, []);
  }

  #accept({ data, handles }: ChannelMessage): ReceivedFrame {
    try {
      const frame = decodeFrame(data);
      const introduced = frame && sort(frame, handles);
      const metadata = frame && metadataOf(frame);
      const planes = frame && introduced && this.#planesOf(frame, introduced.buffers);
      if (!frame || !introduced || !metadata || !planes || !this.#isNext(frame)) {
        throw protocolError('the peer sent what is no frame');
      }
      return this.#handOut(frame, introduced, metadata.value, planes);
    } catch (error) {
      closeQuietly(handles);
      this.#end();
      throw error;
    }
  }

  #handOut(
    frame: FrameMessage,
    { buffers, ready }: Introduced,
    metadata: unknown,
    planes: FramePlane[],
  ): ReceivedFrame {
    const { forgotten, fourcc, width, height, modifier, sequence } = frame;
    for (let index = 0; index < forgotten.length; index++) this.#kept.forget(forgotten[index] as number);
    const kept: KeptBuffer[] = [];
    for (let index = 0; index < planes.length; index++) {
      const { buffer: id } = frame.planes[index] as NamedPlane;
      const introduced = buffers[index];
      const one = introduced === undefined ? this.#kept.find(id) : this.#kept.add(id, introduced);
      (one as KeptBuffer).users++;
      kept[index] = one as KeptBuffer;
    }
    const missed = this.#last < 0 ? 0 : sequence - this.#last - 1;
    this.#last = sequence;
    this.#held++;
    const details = { fourcc, width, height, modifier, planes, sequence, missed, metadata };
    return handOut(details, { sequence, kept, ready, giveBack: this.#giveBack, isHeld: true });
  }

  #isNext({ sequence, width, height }: FrameMessage): boolean {
    return isInteger(sequence) && sequence > this.#last && width > 0 && height > 0;
  }

  /** The planes with their buffers, where these are known, or introduced by this message and new, and large enough. */
  #planesOf(frame: FrameMessage, introduced: readonly (DmaBuf | undefined)[]): FramePlane[] | undefined {
    const { forgotten } = frame;
    const named: (DmaBuf | undefined)[] = [];
    let count = this.#kept.length;
    for (let index = 0; index < forgotten.length; index++) {
      const id = forgotten[index] as number;
      if (this.#kept.find(id) === undefined) return undefined;
      for (let other = 0; other < index; other++) if (forgotten[other] === id) return undefined;
      count--;
    }
    const planes: FramePlane[] = [];
    for (let index = 0; index < frame.planes.length; index++) {
      const { buffer: id, stride, offset, size } = frame.planes[index] as NamedPlane;
      let known = isAmong(id, forgotten) ? undefined : this.#kept.find(id)?.buffer;
      for (let other = 0; other < index; other++) {
        if (frame.planes[other]?.buffer === id) known = named[other];
      }
      const given = introduced[index];
      if (given !== undefined && (known !== undefined || ++count > mostBuffers)) return undefined;
      const buffer = given ?? known;
      if (buffer === undefined || !isInteger(offset) || !isInteger(size)) return undefined;
      if (offset + size > bufferOf(buffer).size) return undefined;
      named[index] = buffer;
      planes[index] = { buffer, stride, offset, size };
    }
    return planes;
  }

  #takeBack(holding: Holding): void {
    holding.isHeld = false;
    this.#held--;
    holding.ready?.close();
    for (let index = 0; index < holding.kept.length; index++) {
      KeptBuffers.giveUp(holding.kept[index] as KeptBuffer);
    }
    if (!this.#channel.closed) void this.#sendReturn(holding.sequence);
  }

  async #sendReturn(sequence: number): Promise<void> {
    this.#returning++;
    // A sender that never reads would have this process keep all that it returns.
    if (this.#returning > mostReturns) this.#end();
    try {
      await this.#channel.send(encodeReturn(sequence));
    } catch {
      // The sender is gone, or the receiver closed: it has all its frames back.
    }
    this.#returning--;
  }

  #end(): void {
    this.#channel.close();
    this.#kept.forgetAll();
  }
}
