import { checkInteger } from '../check.js';
import { askedForAt, placeOfCall } from '../handle.js';
import { native, type Slot, Yielded } from '../native.js';
import { OpenFile } from '../open-file.js';
import { bindName, bindPath, patienceOfClose, socketAddress } from './socket-place.js';

/** The settings of a server. */
export interface ServerOptions {
  /**
   * The permissions of the socket's file, 0 to `0o777`, whatever the umask is: users with write permission may connect.
   * Default `0o600`, only the server's own user. Abstract names have no permissions.
   */
  mode?: number | undefined;
}

/** The names of the options. */
export const serverOptions: readonly string[] = ['mode'];

/** The classes of servers. */
type ServerType = 'DmaBufServer' | 'FdStreamServer';

/** The socket of a server, whose file goes with it. */
class ListeningSocket extends OpenFile {
  // Not the engine's own, which goes through the array's iterator, and that is anybody's.
  constructor(slot: Slot, type: ServerType) {
    super(slot, type);
  }

  protected override leave(slot: Slot): void {
    native.removeSocket(slot, patienceOfClose);
  }
}

/** Starts to listen; `toServer` makes the server of the socket. */
export function listenAt<Server>(
  path: string,
  type: ServerType,
  { mode = 0o600 }: ServerOptions,
  toServer: (file: OpenFile) => Server,
): Server {
  const address = socketAddress(path);
  checkInteger(mode, 'mode', 0, 0o777);
  const serve = (slot: Slot, finish?: () => void): Server => {
    native.unclaimed[Yielded.only] = 0;
    try {
      finish?.();
      return toServer(new ListeningSocket(slot, type));
    } catch (error) {
      native.close(slot);
      throw error;
    }
  };
  const wanted = { address, path, isStream: type === 'FdStreamServer', mode };
  if (address[0] === 0) return serve(bindName(wanted));
  // From down there, the stack would not reach the caller.
  const site = placeOfCall();
  return bindPath(wanted, (slot, finish) => askedForAt(site, () => serve(slot, finish)));
}
