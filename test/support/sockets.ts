// Unix sockets as other programs make and use them: what the package itself never does, and Node has no call for.

import { closeSync } from 'node:fs';
import { closeOnExec } from './descriptors.js';
import { loadFences } from './fences.js';

/** Kinds of sockets, of Linux on every architecture but mips. */
export const kinds = { stream: 1, datagram: 2, seqpacket: 5 } as const;
export type SocketKind = keyof typeof kinds;

const unixDomain = 1;
const internetDomain = 2;
const nonBlocking = 0o4000;

/** Options of SOL_SOCKET. */
export const socketOptions = {
  sendBuffer: 7,
  passCredentials: 16,
  timestamp: 29,
  peekOffset: 42,
  passPidfd: 76,
} as const;

/** An address as bind(2) wants it: a path, or `@` and an abstract name. */
function addressOf(path: string): Uint8Array {
  return Buffer.from(path.replace(/^@/, '\0') + (path[0] === '@' ? '' : '\0'));
}

/** A descriptor, for `using`. */
export class OwnedFd implements Disposable {
  readonly fd: number;
  #open = true;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** Gives the descriptor away. */
  release(): number {
    this.#open = false;
    return this.fd;
  }

  close(): void {
    if (this.#open) closeSync(this.release());
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A Unix socket of a foreign program; blocking, but for the calls of this class. */
export class ForeignSocket extends OwnedFd {
  static create(kind: SocketKind): ForeignSocket {
    return new ForeignSocket(loadFences().makeSocket(unixDomain, kinds[kind] | closeOnExec));
  }

  static internet(): ForeignSocket {
    return new ForeignSocket(loadFences().makeSocket(internetDomain, kinds.stream | closeOnExec));
  }

  static pair(kind: SocketKind = 'seqpacket', flags: number = closeOnExec): [ForeignSocket, ForeignSocket] {
    const both = loadFences().makeSocketPair(kinds[kind] | flags);
    return [new ForeignSocket(Math.floor(both / 2 ** 31)), new ForeignSocket(both % 2 ** 31)];
  }

  /** A connection to who listens at `path`. */
  static connect(path: string, kind: SocketKind = 'seqpacket'): ForeignSocket {
    const socket = ForeignSocket.create(kind);
    try {
      socket.connect(path);
      return socket;
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** Somebody who is bound to `path`, and listens there if that kind does. `accept()` does not wait. */
  static serve(path: string, kind: SocketKind = 'seqpacket', backlog = 8): ForeignSocket {
    const socket = new ForeignSocket(
      loadFences().makeSocket(unixDomain, kinds[kind] | closeOnExec | nonBlocking),
    );
    try {
      socket.bind(path);
      if (kind !== 'datagram') loadFences().listenOn(socket.fd, backlog);
      return socket;
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** Leaves at `path` the file of a server that died. */
  static leaveStale(path: string, kind: SocketKind = 'seqpacket'): void {
    ForeignSocket.serve(path, kind).close();
  }

  bind(path: string): void {
    loadFences().bindSocket(this.fd, addressOf(path));
  }

  connect(path: string): void {
    loadFences().connectSocket(this.fd, addressOf(path));
  }

  /** A connection that waits to be accepted; undefined when there is none. */
  accept(): ForeignSocket | undefined {
    try {
      return new ForeignSocket(loadFences().acceptFrom(this.fd));
    } catch {
      return undefined;
    }
  }

  send(data: Uint8Array | string, fds: readonly number[] = []): void {
    loadFences().sendOn(this.fd, Buffer.from(data), Int32Array.from(fds));
  }

  /** shutdown(2): `'write'` ends what this end sends. */
  shutDown(direction: 'read' | 'write'): void {
    loadFences().shutDown(this.fd, direction === 'read' ? 0 : 1);
  }

  setOption(option: keyof typeof socketOptions, value: number): void {
    loadFences().setOption(this.fd, socketOptions[option], value);
  }
}
