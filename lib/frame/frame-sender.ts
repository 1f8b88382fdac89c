import { bufferOf } from '../buffer/dma-buf.js';
import { type DmaBufChannel, isChannel } from '../channel/channel.js';
import type { PeerCredentials } from '../channel/peer.js';
import { checkInteger, closedError, invalidType, isObject, outOfRange, readOptions } from '../check.js';
import { type CallSite, callSite } from '../errors.js';
import { isSyncFile, type SyncFile } from '../fence/sync-file.js';
import { apply, itemsOf, OwnPromise } from '../intrinsics.js';
import { native } from '../native.js';
import { brand } from '../open-file.js';
import { markUncloneable, showDetails } from '../present.js';
import { Queue, type Queued } from '../queue.js';
import { checkWaitOptions, type Limits, PendingWaits, type WaitOptions, waitOptions } from '../wait.js';
import {
  type Delivery,
  FrameConsumer,
  type FramePolicy,
  type FrameStatistics,
  leaveUnhandled,
} from './frame-consumer.js';
import { checkPlanes, type FrameLayout, type FramePlane } from './planes.js';

/** How a {@link FrameSender} treats a receiver. */
export interface FrameSenderOptions {
  /** How many frames the receiver may have that it has not returned; 1 to 16, default 3. */
  window?: number | undefined;
  /**
   * What happens to a frame when the receiver has that many: `send()` waits (`'wait'`, the default); or the frame is not
   * sent to this receiver (`'drop-newest'`); or it is sent as soon as the receiver returns one, unless a newer frame has
   * taken its place by then (`'drop-oldest'`).
   */
  policy?: FramePolicy | undefined;
}

/** What goes with a frame. */
export interface SendFrameOptions extends WaitOptions {
  /** What `JSON.stringify()` makes of it is sent along. At most 64 KiB, and what the channels' messages have room for. */
  metadata?: unknown;
  /** Signals when the receivers may read the frame, for devices that put no fences on buffers. You may close it at once. */
  ready?: SyncFile | undefined;
  /**
   * Disposed when no receiver has the frame, for example a `PooledBuffer` that goes back to its pool. Where
   * `send()` rejects, it stays yours.
   */
  owner?: Disposable | undefined;
}

/** What became of a frame so far. */
export interface SentFrame {
  /** The number of the frame: one more with each. */
  sequence: number;
  /**
   * Resolves when no receiver has the frame, or is to get it: its buffers may be written again. Receivers that die or are
   * closed have returned all they had. Rejects with what disposing `owner` has thrown.
   */
  returned: Promise<void>;
}

/** One receiver, as {@link FrameSender.add} returns it. */
export interface FrameConnection extends Disposable {
  /** The process that made the connection at the other end. */
  readonly peer: PeerCredentials;
  /**
   * Resolves when the receiver is gone, or was closed here. Rejects with `ERR_DMABUF_PROTOCOL` where it has sent what no
   * receiver sends, or with what kept frames from being sent; nobody has to handle that.
   */
  readonly ended: Promise<void>;
  /** The receiver's figures. */
  statistics(): FrameStatistics;
  /** Closes the channel. All its frames count as returned. */
  close(): void;
}

/** The options, checked. */
interface Treatment {
  window: number;
  policy: FramePolicy;
}

/** A call of `send()` that waits for room. */
interface Waiter extends Queued<Waiter> {
  send(): void;
}

/** A frame that has been checked. */
interface Prepared {
  layout: FrameLayout;
  metadata: Uint8Array | undefined;
  ready: SyncFile | undefined;
  owner: Disposable | undefined;
}

const senderOptions: readonly string[] = ['window', 'policy'];
const sendOptions: readonly string[] = ['metadata', 'ready', 'owner', ...waitOptions];
const policies: readonly unknown[] = ['wait', 'drop-oldest', 'drop-newest'];
const mostMetadata = 65_536;
/** A frame's message without its metadata is shorter. */
const messageRoom = 1024;

const { stringify } = JSON;

function without(consumers: readonly FrameConsumer[], gone: FrameConsumer): FrameConsumer[] {
  const left: FrameConsumer[] = [];
  for (let index = 0; index < consumers.length; index++) {
    const consumer = consumers[index] as FrameConsumer;
    if (consumer !== gone) left[left.length] = consumer;
  }
  return left;
}

function checkSenderOptions(options: FrameSenderOptions | undefined, defaults: Treatment): Treatment {
  const { window = defaults.window, policy = defaults.policy } = readOptions(options, senderOptions);
  checkInteger(window, 'window', 1, 16);
  if (!policies.includes(policy)) {
    throw outOfRange('policy', "'wait', 'drop-oldest' or 'drop-newest'", policy);
  }
  return { window: window as number, policy: policy as FramePolicy };
}

function checkFourcc(value: unknown): string {
  if (typeof value !== 'string') throw invalidType('frame.fourcc', 'a string', value);
  if (!/^[\x20-\x7e]{1,4}$/.test(value)) throw outOfRange('frame.fourcc', 'of four characters', value);
  return value.padEnd(4, ' ');
}

function checkLayout(frame: FrameLayout): FrameLayout {
  const { planes, modifier } = checkPlanes(frame);
  const { fourcc, width, height } = frame;
  return {
    fourcc: checkFourcc(fourcc),
    width: checkInteger(width, 'frame.width', 1, 2 ** 32 - 1),
    height: checkInteger(height, 'frame.height', 1, 2 ** 32 - 1),
    modifier,
    planes,
  };
}

function encodeMetadata(metadata: unknown): Uint8Array | undefined {
  const text = metadata === undefined ? undefined : stringify(metadata);
  if (text === undefined) return undefined;
  const bytes = Buffer.from(text);
  if (bytes.length > mostMetadata) {
    throw outOfRange('metadata', `at most ${mostMetadata} bytes of JSON`, bytes.length);
  }
  return bytes;
}

function checkOwner(owner: unknown): Disposable | undefined {
  if (owner === undefined) return undefined;
  if (!isObject(owner) || typeof (owner as Disposable)[Symbol.dispose] !== 'function') {
    throw invalidType('owner', 'an object with [Symbol.dispose]()', owner);
  }
  return owner as Disposable;
}

/**
 * Sends frames to the receivers of channels, each with a {@link FrameReceiver} at its other end. A buffer's descriptor
 * travels once to each receiver; later frames in the same buffer only name it.
 *
 * Each receiver has a window: so many frames at a time. `send()` never writes to a buffer, and never waits for its
 * fences.
 *
 * @example
 * using sender = new FrameSender(channel, { window: 2, policy: 'drop-oldest' });
 * const loan = await pool.acquire();
 * await sender.send(frameOf(loan.buffer, 'XR24', 640, 480), { metadata: { exposure: 20 }, owner: loan });
 */
export class FrameSender implements Disposable {
  static {
    showDetails(FrameSender.prototype, 'FrameSender');
  }

  readonly #defaults: Treatment;
  #consumers: readonly FrameConsumer[] = [];
  readonly #queue = new Queue<Waiter>();
  readonly #waits = new PendingWaits();
  #closed = false;
  #sequence = 0;
  /** Of receivers that are gone. */
  #past: FrameStatistics = { sent: 0, returned: 0, dropped: 0, inFlight: 0 };

  /**
   * @param channel The first receiver's channel, as {@link FrameSender.add} takes it. None: `add()` them.
   * @param options For every receiver that `add()` gives no other.
   * @throws TypeError `ERR_INVALID_ARG_TYPE`
   * @throws RangeError `ERR_OUT_OF_RANGE`
   */
  constructor(channel?: DmaBufChannel, options?: FrameSenderOptions) {
    this.#defaults = checkSenderOptions(options, { window: 3, policy: 'wait' });
    markUncloneable?.(this);
    if (channel !== undefined) this.#add(channel, this.#defaults);
  }

  static readonly #of = brand('FrameSender', (self) => (#defaults in self ? self : undefined));

  /** Whether `close()` was called. */
  get closed(): boolean {
    return FrameSender.#of(this).#closed;
  }

  /**
   * Adds a receiver, which gets the frames that are sent from now on. Takes its channel over: nobody else may send or receive
   * on it, and it is closed when the receiver is gone, breaks the protocol, or `close()` is called. A receiver keeps the
   * process alive.
   *
   * @throws DmaBufError `ERR_DMABUF_CLOSED`
   */
  add(channel: DmaBufChannel, options?: FrameSenderOptions): FrameConnection {
    const sender = FrameSender.#of(this);
    return sender.#add(channel, checkSenderOptions(options, sender.#defaults));
  }

  #add(channel: DmaBufChannel, { window, policy }: Treatment): FrameConnection {
    if (!isChannel(channel)) throw invalidType('channel', 'a DmaBufChannel', channel);
    if (this.#closed) throw closedError('FrameSender');
    if (channel.closed) throw closedError('DmaBufChannel');
    const { peer } = channel;
    const consumer = new FrameConsumer(channel, window, policy, () => this.#onRoom(consumer));
    const consumers = itemsOf(this.#consumers);
    consumers[consumers.length] = consumer;
    this.#consumers = consumers;
    consumer.start();
    const close = (): void => consumer.end();
    return {
      peer,
      ended: consumer.ended,
      statistics: () => consumer.statistics,
      close,
      [Symbol.dispose]: close,
    };
  }

  /**
   * Sends a frame to all receivers. Resolves when each has been sent the frame, or will be when it has room, or will not,
   * by its policy; calls are served in order. With no receivers, the frame is returned at once.
   *
   * @param frame The layout that `frameOf()` makes, or your own. Its buffers stay yours; do not write them before the frame
   *   is `returned`. Closing them means that receivers keep the memory until they are told by one of the next frames.
   * @throws DmaBufError `ERR_DMABUF_CLOSED` (the sender, or a buffer), `ERR_DMABUF_STALE_FD`, `ETIMEDOUT`, `EMFILE`; or the
   *   signal's reason
   * @throws TypeError `ERR_INVALID_ARG_TYPE`
   * @throws RangeError `ERR_OUT_OF_RANGE` for a plane that leaves its buffer, or metadata that are too long
   */
  async send(frame: FrameLayout, options?: SendFrameOptions): Promise<SentFrame> {
    const sender = FrameSender.#of(this);
    if (sender.#closed) throw closedError('FrameSender');
    const { metadata, ready, owner, ...rest } = readOptions(options, sendOptions) as SendFrameOptions;
    const limits = checkWaitOptions(rest);
    if (ready !== undefined && !isSyncFile(ready)) throw invalidType('ready', 'a SyncFile', ready);
    const layout = checkLayout(frame);
    const prepared = { layout, metadata: encodeMetadata(metadata), ready, owner: checkOwner(owner) };
    if (sender.#queue.length === 0 && sender.#hasRoom) return sender.#send(prepared);
    return await sender.#sendLater(prepared, limits, callSite(FrameSender.prototype.send));
  }

  /** The figures of all receivers together, also of those that are gone. */
  statistics(): FrameStatistics {
    const sender = FrameSender.#of(this);
    const sum = { ...sender.#past };
    for (let index = 0; index < sender.#consumers.length; index++) {
      const { statistics } = sender.#consumers[index] as FrameConsumer;
      sum.sent += statistics.sent;
      sum.returned += statistics.returned;
      sum.dropped += statistics.dropped;
      sum.inFlight += statistics.inFlight;
    }
    return sum;
  }

  /** Closes all channels; all frames are returned, and pending calls rejected. Does nothing the second time. */
  close(): void {
    const sender = FrameSender.#of(this);
    if (sender.#closed) return;
    sender.#closed = true;
    sender.#waits.rejectAll('FrameSender');
    const consumers = sender.#consumers;
    for (let index = 0; index < consumers.length; index++) (consumers[index] as FrameConsumer).end();
  }

  /** The sender's figures, for logs and as JSON. */
  toJSON(): object {
    const sender = FrameSender.#of(this);
    return {
      type: 'FrameSender',
      receivers: sender.#consumers.length,
      ...apply(FrameSender.prototype.statistics, sender, []),
      closed: sender.#closed,
    };
  }

  /** The same as `close()`. */
  [Symbol.dispose](): void {
    apply(FrameSender.prototype.close, this, []);
  }

  /** Whether no receiver has to be waited for. */
  get #hasRoom(): boolean {
    for (let index = 0; index < this.#consumers.length; index++) {
      const { policy, hasRoom } = this.#consumers[index] as FrameConsumer;
      if (policy === 'wait' && !hasRoom) return false;
    }
    return true;
  }

  #sendLater(prepared: Prepared, limits: Limits, site: CallSite): Promise<SentFrame> {
    return this.#waits.run<SentFrame>(
      (done, fail) => {
        const waiter: Waiter = {
          send: () => {
            try {
              done(0, this.#send(prepared));
            } catch (error) {
              fail(error);
            }
          },
          isQueued: false,
          previous: undefined,
          next: undefined,
        };
        this.#queue.add(waiter);
        return () => this.#queue.remove(waiter);
      },
      limits,
      site,
      'waiting for a receiver to return a frame',
      () => "Have the receivers release() their frames sooner, or let them lose some: policy 'drop-oldest'",
    );
  }

  /** A receiver has returned a frame, or is gone. */
  #onRoom(consumer: FrameConsumer): void {
    if (consumer.isEnded) {
      this.#consumers = without(this.#consumers, consumer);
      const { sent, returned, dropped } = consumer.statistics;
      this.#past.sent += sent;
      this.#past.returned += returned;
      this.#past.dropped += dropped;
    }
    while (this.#queue.length > 0 && this.#hasRoom) this.#queue.take()?.send();
  }

  #send({ layout, metadata, ready, owner }: Prepared): SentFrame {
    this.#checkSendable(layout, metadata);
    const own = ready?.dup();
    const sequence = this.#sequence++;
    const consumers = this.#consumers;
    let left = consumers.length;
    const returned = new OwnPromise<void>((resolve, reject) => {
      const finish = (): void => {
        own?.close();
        try {
          owner?.[Symbol.dispose]();
          resolve();
        } catch (error) {
          reject(error);
        }
      };
      const delivery: Delivery = {
        sequence,
        layout,
        metadata,
        ready: own,
        done: () => {
          if (--left === 0) finish();
        },
      };
      if (left === 0) finish();
      for (let index = 0; index < consumers.length; index++)
        (consumers[index] as FrameConsumer).offer(delivery);
    });
    void leaveUnhandled(returned);
    return { sequence, returned };
  }

  /** What can be known to fail fails before any receiver has the frame. */
  #checkSendable({ planes }: FrameLayout, metadata: Uint8Array | undefined): void {
    for (let index = 0; index < planes.length; index++) {
      native.verify(bufferOf((planes[index] as FramePlane).buffer).slot);
    }
    if (metadata === undefined) return;
    for (let index = 0; index < this.#consumers.length; index++) {
      const { channel } = this.#consumers[index] as FrameConsumer;
      if (metadata.length + messageRoom > channel.maxMessageSize) {
        const most = channel.maxMessageSize - messageRoom;
        throw outOfRange('metadata', `at most ${most} bytes of JSON for this channel`, metadata.length);
      }
    }
  }
}
