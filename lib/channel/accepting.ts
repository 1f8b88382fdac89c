import { type NativeHandle, native } from '../native.js';
import type { OpenFile } from '../open-file.js';
import type { Limits } from '../wait.js';
import { makeOrClose } from './ends.js';
import { again, letTurn, SocketLine, spend } from './socket-line.js';

/** What a new connection takes, in messages. */
const costOfConnection = 16;

/** The connections of a socket that listens: each is made what it shall be. */
export class Accepting<Connection> {
  private readonly file: OpenFile;
  private readonly line: SocketLine;
  private readonly toConnection: (handle: NativeHandle) => Connection;

  constructor(file: OpenFile, toConnection: (handle: NativeHandle) => Connection) {
    this.file = file;
    this.line = new SocketLine(file, 1);
    this.toConnection = toConnection;
  }

  /** The next one. */
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
    const handle = native.accept(this.file.handle);
    if (handle < 0) return again;
    spend(costOfConnection);
    return makeOrClose(handle, this.toConnection);
  }
}

/** Connections until the server is closed. */
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
