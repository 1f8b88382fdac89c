import { bufferOf } from '../buffer/dma-buf.js';
import type { DmaBufChannel } from '../channel/channel.js';
import type { Sendable } from '../channel/message.js';
import { DmaBufError } from '../errors.js';
import type { SyncFile } from '../fence/sync-file.js';
import { OwnPromise } from '../intrinsics.js';
import { decodeReturn, encodeFrame, type FrameMessage, type NamedPlane } from './frame-message.js';
import { closeQuietly, protocolError } from './frame-receiver.js';
import { type Known, KnownBuffers } from './known-buffers.js';
import type { FrameLayout, FramePlane } from './planes.js';

/** What to do with a frame for a receiver that has as many as its window allows. */
export type FramePolicy = 'wait' | 'drop-oldest' | 'drop-newest';

/** The figures of a receiver, or of all together. */
export interface FrameStatistics {
  /** Frames that were sent. */
  sent: number;
  /** Frames that the receiver has returned, or that came back because it is gone. */
  returned: number;
  /** Frames that were not sent because the receiver had as many as its window allows. */
  dropped: number;
  /** Frames that the receiver has now. */
  inFlight: number;
}

/** A frame for all receivers. */
export interface Delivery {
  readonly sequence: number;
  readonly layout: FrameLayout;
  readonly metadata: Uint8Array | undefined;
  /** Its own, closed when the frame has left for all of them. */
  readonly ready: SyncFile | undefined;
  /** One receiver has done with it, or never gets it. */
  done(): void;
}

interface Flight {
  readonly delivery: Delivery;
  readonly buffers: readonly Known[];
}

const isGone = (error: unknown): boolean =>
  error instanceof DmaBufError && (error.code === 'EPIPE' || error.code === 'ECONNRESET');

/** A promise whose rejection nobody has to handle. */
export async function leaveUnhandled(promise: Promise<void>): Promise<void> {
  try {
    await promise;
  } catch {
    // Those who want to know have the promise.
  }
}

/** One receiver of a sender's frames. No array's and no map's methods here: see intrinsics.ts. */
export class FrameConsumer {
  readonly channel: DmaBufChannel;
  readonly ended: Promise<void>;
  readonly policy: FramePolicy;
  readonly #window: number;
  readonly #onRoom: () => void;
  readonly #known = new KnownBuffers();
  #flights: Flight[] = [];
  #waiting: Delivery | undefined;
  #isEnded = false;
  #sent = 0;
  #returned = 0;
  #dropped = 0;
  #settle: { resolve: () => void; reject: (error: unknown) => void } | undefined;

  /** `onRoom` is called when the receiver can have one more frame, and when it is gone. */
  constructor(channel: DmaBufChannel, window: number, policy: FramePolicy, onRoom: () => void) {
    this.channel = channel;
    this.policy = policy;
    this.#window = window;
    this.#onRoom = onRoom;
    this.ended = new OwnPromise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    void leaveUnhandled(this.ended);
  }

  /** Begins to read what the receiver returns. */
  start(): void {
    void this.#readReturns();
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  get hasRoom(): boolean {
    return this.#flights.length < this.#window;
  }

  get statistics(): FrameStatistics {
    return {
      sent: this.#sent,
      returned: this.#returned,
      dropped: this.#dropped,
      inFlight: this.#flights.length,
    };
  }

  /** Sends a frame, keeps it for later, or drops it, by the policy. */
  offer(delivery: Delivery): void {
    if (this.hasRoom) this.#send(delivery);
    else if (this.policy === 'drop-oldest') {
      const oldest = this.#waiting;
      this.#waiting = delivery;
      if (oldest !== undefined) this.#drop(oldest);
    } else this.#drop(delivery);
  }

  /** Closes the channel: all frames are back. Does nothing the second time. */
  end(error?: unknown): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.channel.close();
    const flights = this.#flights;
    const waiting = this.#waiting;
    this.#flights = [];
    this.#waiting = undefined;
    this.#returned += flights.length;
    if (error === undefined || isGone(error)) this.#settle?.resolve();
    else this.#settle?.reject(error);
    for (let index = 0; index < flights.length; index++) (flights[index] as Flight).delivery.done();
    if (waiting !== undefined) this.#drop(waiting);
    this.#onRoom();
  }

  #drop(delivery: Delivery): void {
    this.#dropped++;
    delivery.done();
  }

  /** Whatever goes wrong ends the receiver: it could not know what it has missed. */
  #send(delivery: Delivery): void {
    const buffers: Known[] = [];
    this.#flights[this.#flights.length] = { delivery, buffers };
    this.#sent++;
    try {
      const handles: Sendable[] = [];
      const bytes = encodeFrame(this.#messageOf(delivery, buffers, handles));
      void this.#pass(bytes, handles);
    } catch (error) {
      this.end(error);
    }
  }

  async #pass(bytes: Uint8Array, handles: readonly Sendable[]): Promise<void> {
    try {
      await this.channel.send(bytes, handles);
    } catch (error) {
      this.end(error);
    }
  }

  /** The message; what goes with it is added to `handles`, and the buffers that it names to `buffers`. */
  #messageOf(delivery: Delivery, buffers: Known[], handles: Sendable[]): FrameMessage {
    const { sequence, metadata, ready } = delivery;
    const { fourcc, width, height, modifier, planes: given } = delivery.layout;
    const planes: NamedPlane[] = [];
    const forgotten: number[] = [];
    let introduced = 0;
    for (let index = 0; index < given.length; index++) {
      const { buffer, stride, offset, size } = given[index] as FramePlane;
      const { inode } = bufferOf(buffer);
      let known = this.#known.recall(inode, buffer);
      if (known === undefined) {
        known = this.#known.introduce(inode, buffer, forgotten);
        introduced |= 1 << index;
        handles[handles.length] = buffer;
      }
      known.users++;
      buffers[index] = known;
      planes[index] = { buffer: known.id, stride, offset, size };
    }
    this.#known.forgetClosed(forgotten);
    const hasReady = ready !== undefined;
    if (hasReady) handles[handles.length] = ready;
    return {
      sequence,
      fourcc,
      width,
      height,
      modifier,
      planes,
      introduced,
      hasReady,
      forgotten,
      metadata,
    };
  }

  async #readReturns(): Promise<void> {
    try {
      for (;;) {
        const message = await this.channel.receive();
        if (message === undefined) break;
        closeQuietly(message.handles);
        const flight = this.#land(decodeReturn(message.data));
        if (flight === undefined) throw protocolError('the peer returned a frame that it did not have');
        this.#takeBack(flight);
      }
      this.end();
    } catch (error) {
      this.end(error);
    }
  }

  /** Takes a frame out of those that are in flight. */
  #land(sequence: number | undefined): Flight | undefined {
    const flights = this.#flights;
    for (let index = 0; index < flights.length; index++) {
      const flight = flights[index] as Flight;
      if (flight.delivery.sequence !== sequence) continue;
      for (let next = index + 1; next < flights.length; next++) flights[next - 1] = flights[next] as Flight;
      flights.length--;
      return flight;
    }
    return undefined;
  }

  #takeBack({ delivery, buffers }: Flight): void {
    for (let index = 0; index < buffers.length; index++) (buffers[index] as Known).users--;
    this.#returned++;
    delivery.done();
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting !== undefined) this.#sendWaiting(waiting);
    this.#onRoom();
  }

  /** Its buffers were checked when it came, and may have been closed since. */
  #sendWaiting(delivery: Delivery): void {
    const { planes } = delivery.layout;
    for (let index = 0; index < planes.length; index++) {
      if (!(planes[index] as FramePlane).buffer.closed) continue;
      this.#drop(delivery);
      return;
    }
    this.#send(delivery);
  }
}
