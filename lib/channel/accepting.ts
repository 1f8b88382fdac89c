import { native, type Slot } from '../native.js';
import type { OpenFile } from '../open-file.js';
import type { Limits } from '../wait.js';
import { makeOrClose } from './ends.js';
import { again, letTurn, SocketLine, spend } from './socket-line.js';

/** What a new connection costs, in messages. */
const costOfConnection = 16;

/** Accepts the connections of a listening socket, and makes an object of each. */
export class Accepting<Connection> {
  private readonly file: OpenFile;
  private readonly line: SocketLine;
  private readonly toConnection: (slot: Slot) => Connection;

  constructor(file: OpenFile, toConnection: (slot: Slot) => Connection) {
    this.file = file;
    this.line = new SocketLine(file, 1);
    this.toConnection = toConnection;
  }

  /** The next connection. */
  async accept(limits: Limits): Promise<Connection> {
    if (this.line.mayTry(limits)) {
      try {
        const connection = this.acceptNow();
        if (connection !== again) return connection;
      } catch (error) {
        throw await letTurn(error);
      }
    }
    return await this.line.run(() => this.acceptNow(), limits, 'waiting for a connection');
  }

  private acceptNow(): Connection | typeof again {
    const slot = native.accept(this.file.slot);
    if (slot < 0) return again;
    spend(costOfConnection);
    return makeOrClose(slot, this.toConnection);
  }
}

/** Yields connections until the server is closed. */
export async function* connectionsOf<Connection>(server: {
  readonly closed: boolean;
  accept(): Promise<Connection>;
}): AsyncGenerator<Connection, void, undefined> {
  try {
    while (!server.closed) yield await server.accept();
  } catch (error) {
    if (!server.closed) throw error;
  }
}
