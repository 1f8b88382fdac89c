import { DmaBufError } from '../errors.js';
import { resolved } from '../intrinsics.js';
import { native, Register, type Slot, Yielded } from '../native.js';
import type { OpenFile } from '../open-file.js';
import type { Limits } from '../wait.js';
import {
  type ChannelMessage,
  closeAll,
  hold,
  ReceivedMessage,
  readHandles,
  type Sendable,
  writeSendables,
} from './message.js';
import { peerDropped } from './peer.js';
import { again, later, SocketLine, spend } from './socket-line.js';

/** The most bytes that are received at a time: as many as Node.js's own streams read. */
const mostBytes = 65_536;

/** What `receiveBytes()` does with the descriptors that arrive. */
const kept = 0;
const asObjects = 1;
const asNumbers = 2;

const noLimits: Limits = {};
const nothing: readonly Slot[] = [];
const sent: Promise<void> = resolved(undefined);

// Taken when this is loaded: see intrinsics.ts.
const Bytes = Uint8Array;

/** The bytes behind the first `count`. */
function after(bytes: Uint8Array, count: number): Uint8Array {
  return new Bytes(bytes.buffer, bytes.byteOffset + count, bytes.length - count);
}

/** The owner of a socket, to which it reports. */
interface Owner {
  /** Only a part of a call's bytes could be sent, or bytes arrived without all of their descriptors. */
  onCut(): void;
  /** `receive()` has reached the end. */
  onEnd(): void;
}

/** A connected stream socket: it sends and receives bytes in order, immediately or when it is ready. */
export class ByteSocket {
  readonly file: OpenFile;
  /** How many descriptors have arrived and were not taken yet. */
  unclaimed = 0;
  /** Where the next bytes go; undefined if there is no buffer for them yet. */
  private target: Buffer | undefined;
  private readonly recognise: boolean;
  private readonly owner: Owner;
  private readonly sending: SocketLine;
  private readonly receiving: SocketLine;

  constructor(file: OpenFile, recognise: boolean, owner: Owner) {
    this.file = file;
    this.recognise = recognise;
    this.owner = owner;
    this.sending = new SocketLine(file, 2, true);
    this.receiving = new SocketLine(file, 1, true);
  }

  /** Sends one byte or more; the handles go with the first one. All arguments have been checked. */
  send(bytes: Uint8Array, items: readonly Sendable[]): Promise<void> {
    let count = 0;
    if (this.sending.mayTry(noLimits)) {
      writeSendables(items);
      count = this.sendNow(bytes, items.length);
      if (count === bytes.length) return sent;
    }
    const held = count === 0 ? hold(items, this.file.slot) : nothing;
    // A copy: a caller that does not wait may change the bytes meanwhile.
    return this.sendLater(new Bytes(after(bytes, count)), held, count > 0);
  }

  /** The same with copies of the handles, which are closed once they were sent. Nothing may change the bytes meanwhile. */
  async sendLater(bytes: Uint8Array, held: readonly Slot[], begun = false): Promise<void> {
    let rest = bytes;
    let left = held;
    let isBegun = begun;
    const attempt = (): undefined | typeof again => {
      for (let index = 0; index < left.length; index++) {
        native.registers[Register.handles + 2 * index] = 1;
        native.registers[Register.handles + 2 * index + 1] = left[index] as Slot;
      }
      const count = this.sendNow(rest, left.length);
      if (count === 0) return again;
      isBegun = true;
      closeAll(left);
      left = nothing;
      rest = after(rest, count);
      return rest.length === 0 ? undefined : again;
    };
    try {
      await this.sending.run<undefined>(attempt, noLimits, 'sending bytes');
    } catch (error) {
      // The peer would take the bytes of the next call for the rest.
      if (isBegun && (error as { code?: string }).code !== 'EPIPE') this.owner.onCut();
      throw error;
    } finally {
      closeAll(left);
    }
  }

  /** Sends bytes that nothing changes meanwhile; undefined if all were sent immediately. */
  write(bytes: Uint8Array): Promise<void> | undefined {
    let count = 0;
    if (bytes.length === 0) return undefined;
    if (this.sending.mayTry(noLimits)) {
      count = this.sendNow(bytes, 0);
      if (count === bytes.length) return undefined;
    }
    return this.sendLater(after(bytes, count), nothing, count > 0);
  }

  /** Makes the peer see the end, after everything that was sent. */
  async end(): Promise<void> {
    const endNow = (): undefined => native.endBytes(this.file.slot) as undefined;
    if (this.sending.mayTry(noLimits)) endNow();
    else await this.sending.run<undefined>(endNow, noLimits, 'ending the stream');
  }

  /** Returns how many of the bytes the kernel has taken. The handles are in the addon's registers. */
  private sendNow(bytes: Uint8Array, handles: number): number {
    const count = native.send(this.file.slot, bytes, handles);
    if (count < 0) return 0;
    spend(handles, count);
    return count;
  }

  /** The next bytes, with their descriptors; undefined at the end. */
  receive(limits: Limits): Promise<ChannelMessage | undefined> {
    const attempt = (): ChannelMessage | undefined | typeof again | typeof later => {
      const how = this.recognise ? asObjects : asNumbers;
      const length = this.understand(native.receiveBytes(this.file.slot, mostBytes, how), how);
      if (length === undefined) this.owner.onEnd();
      if (typeof length !== 'number') return length;
      const data = new Bytes(length);
      native.takeMessage(data);
      const message = new ReceivedMessage(
        data,
        native.registers[Register.handleCount] === 0 ? [] : readHandles(),
      );
      // From here on, the numbers of other files belong to the receiver.
      for (let index = 0; index < message.handles.length; index++) native.unclaimed[index] = 0;
      spend(message.handles.length, length);
      return message;
    };
    if (this.receiving.mayTry(limits)) {
      const message = attempt();
      if (message !== again && message !== later) return resolved(message);
      if (message === later) this.receiving.delay();
    }
    return this.receiving.run(attempt, limits, 'waiting for bytes');
  }

  /** The next bytes, whose descriptors wait for {@link takeHandle}; undefined at the end. Only a wait returns a promise. */
  read(): Buffer | undefined | Promise<Buffer | undefined> {
    const attempt = (): Buffer | undefined | typeof again | typeof later => {
      const { slot } = this.file;
      const target = this.target;
      const outcome =
        target === undefined ? native.receiveBytes(slot, mostBytes, kept) : native.receiveInto(slot, target);
      const length = this.understand(outcome, kept);
      if (typeof length !== 'number') return length;
      const handles = native.registers[Register.handleCount] as number;
      this.unclaimed += handles;
      spend(handles, length);
      // When many bytes arrive, the next ones are received without a copy.
      this.target = length < mostBytes / 4 ? undefined : Buffer.allocUnsafeSlow(mostBytes);
      if (target !== undefined) return target.subarray(0, length);
      const data = Buffer.allocUnsafeSlow(length);
      native.takeMessage(data);
      return data;
    };
    if (this.receiving.mayTry(noLimits)) {
      const data = attempt();
      if (data !== again && data !== later) return data;
      if (data === later) this.receiving.delay();
    }
    return this.receiving.run(attempt, noLimits, 'waiting for bytes');
  }

  /** To be called before the descriptor is closed or released: the event loop watches a copy of it. */
  stopWatching(): void {
    this.sending.stopWatching();
    this.receiving.stopWatching();
  }

  /** Takes the first of the descriptors that were not taken. */
  takeHandle(): Sendable | undefined {
    if (this.unclaimed === 0 || !native.takeArrival(this.file.slot, this.recognise)) return undefined;
    this.unclaimed--;
    const [handle] = readHandles();
    native.unclaimed[Yielded.only] = 0;
    return handle;
  }

  /** How many bytes have arrived; the number of their descriptors is in the registers. Undefined at the end. */
  private understand(length: number, how: number): number | undefined | typeof again | typeof later {
    if (length >= 0) return length;
    if (length === -1) return again;
    if (length === -2) {
      this.target = undefined;
      return undefined;
    }
    if (length === -5) return later;
    if (length === -6) throw peerDropped('stream');
    const [count] = native.registers;
    if (how !== kept) this.owner.onCut();
    throw new DmaBufError(
      `ERR_DMABUF_MESSAGE_TRUNCATED: bytes were dropped, since only ${count} of the descriptors that came with ` +
        'them could be received: this process has none left, or is not allowed to have them',
      {
        code: 'ERR_DMABUF_MESSAGE_TRUNCATED',
        syscall: 'recvmsg',
        hint: 'Close the stream: what follows cannot be understood without them',
      },
    );
  }
}
