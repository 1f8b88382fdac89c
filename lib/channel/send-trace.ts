import { traceAsync, tracingOf } from '../tracing.js';
import { inodesOf, type Sendable } from './message.js';
import type { PeerCredentials } from './peer.js';

/**
 * What the tracing channel `dmabuf:send` reports about a message that `DmaBufChannel.send()` sends, or about the bytes that
 * `FdStream.send()` sends. It does not report what a stream's `write()` sends.
 */
export interface SendTrace {
  /** The method. */
  operation: 'send';
  /** How many bytes of data the message has. */
  size: number;
  /** How many handles the message has. */
  handles: number;
  /** Identifies each dma-buf among the handles on the whole machine: the receiver's object has the same inode. */
  inodes: readonly number[];
  /** The process that made the connection at the other end. */
  peer: PeerCredentials;
  /** What the call rejects with. */
  error?: unknown;
}

/** The tracing channel `dmabuf:send`. */
export const sendTracing: ReturnType<typeof tracingOf<SendTrace>> = tracingOf<SendTrace>('dmabuf:send');

/** Calls `send`, and reports it to the subscribers. */
export function sendTraced(
  peer: PeerCredentials,
  size: number,
  items: readonly Sendable[],
  send: () => Promise<void>,
): Promise<void> {
  const trace: SendTrace = {
    operation: 'send',
    size,
    handles: items.length,
    inodes: inodesOf(items),
    peer: { ...peer },
  };
  return traceAsync(sendTracing, trace, send);
}
