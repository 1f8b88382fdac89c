import { aboutDescriptor } from '../errors.js';
import { type NativeHandle, native } from '../native.js';

/** Makes the object of a handle that the addon has just yielded; closes the handle where that fails. */
export function makeOrClose<End>(handle: NativeHandle, make: (handle: NativeHandle) => End): End {
  try {
    return make(handle);
  } catch (error) {
    native.close(handle);
    throw error;
  }
}

/** Makes the objects of the two handles that `create` leaves in the registers, each with its place. */
export function makePair<End extends Disposable>(
  create: () => void,
  make: (handle: NativeHandle, place: number) => End,
): [End, End] {
  create();
  const first = native.registers[0] as NativeHandle;
  const second = native.registers[1] as NativeHandle;
  let one: End | undefined;
  try {
    one = makeOrClose(first, (handle) => make(handle, 0));
    return [one, makeOrClose(second, (handle) => make(handle, 1))];
  } catch (error) {
    if (one === undefined) native.close(second);
    one?.[Symbol.dispose]();
    throw error;
  }
}

/**
 * Takes a socket's descriptor over, of which `adopt` makes a handle, and `make` an object, and marks it close-on-exec. When
 * this throws, the descriptor is still the caller's: `giveBack` releases the object.
 */
export function takeOver<End>(
  fd: number,
  adopt: (fd: number) => NativeHandle,
  make: (handle: NativeHandle) => End,
  giveBack: (end: End) => void,
): End {
  const handle = aboutDescriptor(fd, () => adopt(fd));
  let end: End | undefined;
  try {
    end = make(handle);
    native.markCloseOnExec(handle);
    return end;
  } catch (error) {
    if (end === undefined) native.release(handle);
    else giveBack(end);
    native.unclaimed[0] = 0;
    throw error;
  }
}
