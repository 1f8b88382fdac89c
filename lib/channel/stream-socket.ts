import { native, Yielded } from '../native.js';
import { bindPath, patienceOfClose } from './socket-place.js';

/** A stream socket that listens at a path, for a server that is not this package's. */
export interface StreamSocket {
  /** A descriptor of it, for the server to close. */
  fd: number;
  /** Removes the socket's file, when the server has stopped listening. */
  close(): void;
}

/**
 * Listens at a path as `DmaBufChannel.listen()` does: what a dead server left there is replaced, and no file system that does
 * not answer keeps this thread waiting for long. The file gets the permissions that the umask leaves.
 *
 * @throws DmaBufError what `DmaBufChannel.listen()` throws
 */
export function listenForStreams(path: string): StreamSocket {
  const wanted = { address: Buffer.from(path), path, isStream: true, mode: undefined };
  return bindPath(wanted, (slot, finish) => {
    native.unclaimed[Yielded.only] = 0;
    const close = (): void => native.close(slot) as undefined;
    try {
      finish();
      native.describe(slot); // It is shared from here on.
      const copy = native.duplicate(slot);
      native.unclaimed[Yielded.only] = 0;
      const fd = native.release(copy);
      native.unclaimed[Yielded.only] = 0;
      return {
        fd,
        close() {
          native.removeSocket(slot, patienceOfClose);
          close();
        },
      };
    } catch (error) {
      close();
      throw error;
    }
  });
}
