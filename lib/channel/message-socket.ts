import { constants } from 'node:os';
import { checkInteger } from '../check.js';
import { DmaBufError } from '../errors.js';
import { resolved } from '../intrinsics.js';
import { native, Register, type Slot } from '../native.js';
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
import { type PeerCredentials, peerDropped } from './peer.js';
import { sendTraced, sendTracing } from './send-trace.js';
import { again, later, SocketLine, spend } from './socket-line.js';

/** The settings of a channel. */
export interface ChannelOptions {
  /**
   * The largest message in bytes, in both directions; at most 4 MiB. Default: the socket's limit, usually 212 960. More
   * than twice `net.core.wmem_max` needs CAP_NET_ADMIN; without it, the error is `EPERM`.
   */
  maxMessageSize?: number | undefined;
}

/** The names of the options. */
export const channelOptions: readonly string[] = ['maxMessageSize'];

/** Above this the kernel refuses whatever the limit is. */
const maxMessageBytes = 4 << 20;

const { EMSGSIZE, EPERM } = constants.errno;

const sent: Promise<void> = resolved(undefined);

// Taken when this is loaded: see intrinsics.ts.
const Bytes = Uint8Array;

/** The options have been read. */
export function checkChannelOptions(options: ChannelOptions): ChannelOptions {
  const { maxMessageSize } = options;
  if (maxMessageSize !== undefined) checkInteger(maxMessageSize, 'maxMessageSize', 1, maxMessageBytes);
  return options;
}

/** Sets the largest message, where one is wanted, and returns what it is. */
export function limitMessages(slot: Slot, wanted = 0): number {
  const limit = native.limitMessages(slot, wanted);
  if (limit >= wanted) return wanted === 0 ? limit : wanted;
  throw new DmaBufError(`EPERM: this socket sends at most ${limit} bytes at a time, not ${wanted}`, {
    code: 'EPERM',
    errno: -EPERM,
    syscall: 'setsockopt',
    hint: `Raise the limit, as root: sysctl -w net.core.wmem_max=${Math.ceil(wanted / 2) + 16}`,
  });
}

/** A connected socket: messages that are sent and received in order, at once or when it is ready. */
export class MessageSocket {
  readonly file: OpenFile;
  /** Bytes, both ways. */
  readonly maxMessageSize: number;
  readonly peer: PeerCredentials;
  private readonly sending: SocketLine;
  private readonly receiving: SocketLine;

  constructor(file: OpenFile, peer: PeerCredentials, maxMessageSize: number) {
    this.file = file;
    this.peer = peer;
    this.maxMessageSize = maxMessageSize;
    this.sending = new SocketLine(file, 2);
    this.receiving = new SocketLine(file, 1);
  }

  /** Sends bytes and handles, which have been checked. */
  send(bytes: Uint8Array, items: readonly Sendable[], limits: Limits): Promise<void> {
    // No closure here, which would cost every message its variables.
    if (sendTracing.hasSubscribers) return this.sendAsTraced(bytes, items, limits);
    return this.sendInTurn(bytes, items, limits);
  }

  private sendAsTraced(bytes: Uint8Array, items: readonly Sendable[], limits: Limits): Promise<void> {
    return sendTraced(this.peer, bytes.length, items, () => this.sendInTurn(bytes, items, limits));
  }

  private sendInTurn(bytes: Uint8Array, items: readonly Sendable[], limits: Limits): Promise<void> {
    if (bytes.length > this.maxMessageSize) throw tooLarge(bytes.length, this.maxMessageSize);
    if (this.sending.mayTry(limits)) {
      writeSendables(items);
      if (this.sendNow(bytes, items.length) !== again) return sent;
    }
    return this.sendLater(new Uint8Array(bytes), hold(items, this.file.slot), limits);
  }

  /** The next message. */
  receive(limits: Limits): Promise<ChannelMessage | undefined> {
    if (this.receiving.mayTry(limits)) {
      const message = this.receiveNow();
      if (message !== again && message !== later) return resolved(message);
      if (message === later) this.receiving.delay();
    }
    return this.receiving.run(() => this.receiveNow(), limits, 'waiting for a message');
  }

  /** The handles are in the addon's registers. */
  private sendNow(bytes: Uint8Array, count: number): undefined | typeof again {
    if (native.send(this.file.slot, bytes, count) < 0) return again;
    spend(count, bytes.length);
    return undefined;
  }

  /** Waits its turn, with a copy of the data and of the handles, which are closed when it is over. */
  private async sendLater(data: Uint8Array, held: readonly Slot[], limits: Limits): Promise<void> {
    const attempt = (): undefined | typeof again => {
      for (let index = 0; index < held.length; index++) {
        native.registers[Register.handles + 2 * index] = 1;
        native.registers[Register.handles + 2 * index + 1] = held[index] as Slot;
      }
      return this.sendNow(data, held.length);
    };
    try {
      await this.sending.run<undefined>(attempt, limits, 'sending a message');
    } finally {
      closeAll(held);
    }
  }

  private receiveNow(): ChannelMessage | undefined | typeof again | typeof later {
    const length = native.receive(this.file.slot, this.maxMessageSize);
    if (length >= 0) {
      // Memory that nothing has had a hold of: the class was taken when this was loaded.
      const data = new Bytes(length);
      native.takeMessage(data);
      const message = new ReceivedMessage(data, readHandles());
      // The numbers of other files are the receiver's from here on.
      for (let index = 0; index < message.handles.length; index++) native.unclaimed[index] = 0;
      spend(message.handles.length, length);
      return message;
    }
    if (length === -1) return again;
    if (length === -2) return undefined;
    if (length === -5) return later;
    if (length === -6) throw peerDropped('channel');
    spend(native.registers[Register.handleCount] as number);
    throw truncated(length === -3, this.maxMessageSize);
  }
}

function tooLarge(length: number, limit: number): DmaBufError {
  const message = `EMSGSIZE: the message has ${length} bytes, and this channel sends at most ${limit} at a time`;
  const hint = 'Put large data into a dma-buf, or raise maxMessageSize';
  return new DmaBufError(message, { code: 'EMSGSIZE', errno: -EMSGSIZE, syscall: 'sendmsg', hint });
}

function truncated(data: boolean, limit: number): DmaBufError {
  const { registers } = native;
  const why = data
    ? `it has ${registers[Register.messageLength]} bytes, and this channel receives at most ${limit} bytes`
    : `only ${registers[Register.handleCount]} of its descriptors could be received: this process has none left, or is not allowed to have them`;
  return new DmaBufError(`ERR_DMABUF_MESSAGE_TRUNCATED: a message was dropped, since ${why}`, {
    code: 'ERR_DMABUF_MESSAGE_TRUNCATED',
    syscall: 'recvmsg',
    hint: data ? 'Raise maxMessageSize' : 'Close what is no longer needed, or raise the limit (ulimit -n)',
  });
}
