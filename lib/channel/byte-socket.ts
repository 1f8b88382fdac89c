import { DmaBufError } from '../errors.js';
import { resolved } from '../intrinsics.js';
import { type NativeHandle, native } from '../native.js';
import type { OpenFile } from '../open-file.js';
import type { Limits } from '../wait.js';
import {
  type ChannelMessage,
  closeAll,
  hold,
  readHandles,
  type Sendable,
  writeSendables,
} from './message.js';
import { peerDropped } from './message-socket.js';
import { again, later, SocketLine, spend } from './socket-line.js';

/** The most bytes that are received at a time: what a read of Node.js's own streams takes. */
const mostBytes = 65_536;

/** What becomes of descriptors that arrive, as `receiveBytes()` has it. */
const kept = 0;
const asObjects = 1;
const asNumbers = 2;

const noLimits: Limits = {};
const nothing: readonly NativeHandle[] = [];
const sent: Promise<void> = resolved(undefined);

// Taken when this is loaded: see intrinsics.ts.
const Bytes = Uint8Array;

/** The bytes behind the first `count`. */
function after(bytes: Uint8Array, count: number): Uint8Array {
  return new Bytes(bytes.buffer, bytes.byteOffset + count, bytes.length - count);
}

/** What is told to whoever owns a socket. */
interface Owner {
  /** Only a part of somebody's bytes could be sent, or bytes have come without all of their descriptors. */
  onCut(): void;
  /** `receive()` is at the end. */
  onEnd(): void;
}

/** A connected stream socket: bytes that are sent and received in order, at once or when it is ready. */
export class ByteSocket {
  readonly file: OpenFile;
  /** How many descriptors have arrived that nobody took yet. */
  unclaimed = 0;
  /** Where the next bytes go; undefined: nowhere yet. */
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

  /** Sends one byte or more, with handles that go with the first one. All has been checked. */
  send(bytes: Uint8Array, items: readonly Sendable[]): Promise<void> {
    let count = 0;
    if (this.sending.mayTry(noLimits)) {
      writeSendables(items);
      count = this.sendNow(bytes, items.length);
      if (count === bytes.length) return sent;
    }
    const held = count === 0 ? hold(items, this.file.handle) : nothing;
    // A copy: whoever does not wait may change them meanwhile.
    return this.sendLater(new Bytes(after(bytes, count)), held, count > 0);
  }

  /** The same with copies of handles, which are closed when they have gone; without handles, where nobody changes the bytes. */
  async sendLater(bytes: Uint8Array, held: readonly NativeHandle[], begun = false): Promise<void> {
    let rest = bytes;
    let left = held;
    let isBegun = begun;
    const attempt = (): undefined | typeof again => {
      for (let index = 0; index < left.length; index++) {
        native.registers[2 * index] = 1;
        native.registers[2 * index + 1] = left[index] as NativeHandle;
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
      // Whatever came next would be taken for the rest.
      if (isBegun && (error as { code?: string }).code !== 'EPIPE') this.owner.onCut();
      throw error;
    } finally {
      closeAll(left);
    }
  }

  /** Sends bytes that nobody changes meanwhile; undefined where that is done already. */
  write(bytes: Uint8Array): Promise<void> | undefined {
    let count = 0;
    if (bytes.length === 0) return undefined;
    if (this.sending.mayTry(noLimits)) {
      count = this.sendNow(bytes, 0);
      if (count === bytes.length) return undefined;
    }
    return this.sendLater(after(bytes, count), nothing, count > 0);
  }

  /** The peer sees the end, behind everything that was sent. */
  async end(): Promise<void> {
    const endNow = (): undefined => native.endBytes(this.file.handle) as undefined;
    if (this.sending.mayTry(noLimits)) endNow();
    else await this.sending.run<undefined>(endNow, noLimits, 'ending the stream');
  }

  /** How many of the bytes the kernel has taken. The handles are in the addon's registers. */
  private sendNow(bytes: Uint8Array, handles: number): number {
    const count = native.send(this.file.handle, bytes, handles);
    if (count < 0) return 0;
    spend(handles, count);
    return count;
  }

  /** What arrives next, with its descriptors; undefined at the end. */
  receive(limits: Limits): Promise<ChannelMessage | undefined> {
    const attempt = (): ChannelMessage | undefined | typeof again | typeof later => {
      const how = this.recognise ? asObjects : asNumbers;
      const length = this.understand(native.receiveBytes(this.file.handle, mostBytes, how), how);
      if (length === undefined) this.owner.onEnd();
      if (typeof length !== 'number') return length;
      const data = new Bytes(length);
      native.takeMessage(data);
      const message = { data, handles: native.registers[0] === 0 ? [] : readHandles() };
      // The numbers of other files are the receiver's from here on.
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
      const { handle } = this.file;
      const target = this.target;
      const outcome =
        target === undefined
          ? native.receiveBytes(handle, mostBytes, kept)
          : native.receiveInto(handle, target);
      const length = this.understand(outcome, kept);
      if (typeof length !== 'number') return length;
      const handles = native.registers[0] as number;
      this.unclaimed += handles;
      spend(handles, length);
      // Where much comes, what comes next shall not be copied.
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

  /** Before the descriptor goes: a copy of it is watched. */
  stopWatching(): void {
    this.sending.stopWatching();
    this.receiving.stopWatching();
  }

  /** The first of the descriptors that nobody took. */
  takeHandle(): Sendable | undefined {
    if (this.unclaimed === 0 || !native.takeArrival(this.file.handle, this.recognise)) return undefined;
    this.unclaimed--;
    const [handle] = readHandles();
    native.unclaimed[0] = 0;
    return handle;
  }

  /** How many bytes have arrived, with how many descriptors in the registers; undefined at the end. */
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
        'them could be received: this process has none left, or may not have them',
      {
        code: 'ERR_DMABUF_MESSAGE_TRUNCATED',
        syscall: 'recvmsg',
        hint: 'Close the stream: what follows cannot be understood without them',
      },
    );
  }
}
