import type { ChannelMessage, DmaBufChannel } from 'dmabuf';
import { adopt } from './channels.js';
import { ForeignSocket } from './sockets.js';

/** A channel, and the foreign program at its other end. */
export class Foreign implements Disposable {
  readonly channel: DmaBufChannel;
  readonly peer: ForeignSocket;

  constructor(options?: { maxMessageSize?: number }, prepare?: (own: ForeignSocket) => void) {
    const [own, peer] = ForeignSocket.pair();
    prepare?.(own);
    this.channel = adopt(own, options);
    this.peer = peer;
  }

  [Symbol.dispose](): void {
    this.channel.close();
    this.peer.close();
  }
}

export const text = (message: ChannelMessage | undefined): string | undefined =>
  message && Buffer.from(message.data).toString();
