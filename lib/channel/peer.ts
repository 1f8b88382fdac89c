import { DmaBufError } from '../errors.js';
import { native, Register, type Slot } from '../native.js';

/** The process at the other end of a connection (SO_PEERCRED of unix(7)). */
export interface PeerCredentials {
  /** Process id; 0 for a process outside this PID namespace. */
  pid: number;
  /** Effective user id. */
  uid: number;
  /** Effective group id. */
  gid: number;
}

/** The process at the other end of a socket. */
export function peerOf(slot: Slot): PeerCredentials {
  native.describePeer(slot);
  const { registers } = native;
  return {
    pid: registers[Register.pid] as number,
    uid: registers[Register.uid] as number,
    gid: registers[Register.gid] as number,
  };
}

/** The error of an end whose peer has sent too many descriptors that cannot be closed. */
export function peerDropped(what: 'channel' | 'stream'): DmaBufError {
  return new DmaBufError(
    `ERR_DMABUF_PEER_DROPPED: nothing more is received on this ${what}, since the peer has sent too many descriptors of ` +
      'files whose closing blocks',
    { code: 'ERR_DMABUF_PEER_DROPPED', hint: `Close the ${what}` },
  );
}
