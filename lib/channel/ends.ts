import { aboutDescriptor } from '../errors.js';
import { native, Register, type Slot, Yielded } from '../native.js';

/** Makes the object of a slot that the addon has just yielded; closes the slot if that fails. */
export function makeOrClose<End>(slot: Slot, make: (slot: Slot) => End): End {
  try {
    return make(slot);
  } catch (error) {
    native.close(slot);
    throw error;
  }
}

/** Makes the objects of the two slots that `create` leaves in the registers, each with its position in `unclaimed`. */
export function makePair<End extends Disposable>(
  create: () => void,
  make: (slot: Slot, place: number) => End,
): [End, End] {
  create();
  const first = native.registers[Register.firstEnd] as Slot;
  const second = native.registers[Register.secondEnd] as Slot;
  let one: End | undefined;
  try {
    one = makeOrClose(first, (slot) => make(slot, Yielded.only));
    return [one, makeOrClose(second, (slot) => make(slot, Yielded.second))];
  } catch (error) {
    if (one === undefined) native.close(second);
    one?.[Symbol.dispose]();
    throw error;
  }
}

/**
 * Takes over a socket's descriptor, and marks it close-on-exec: `adopt` makes a slot of it, and `make` an object of that.
 * When this throws, the descriptor is still the caller's: `giveBack` releases the object.
 */
export function takeOver<End>(
  fd: number,
  adopt: (fd: number) => Slot,
  make: (slot: Slot) => End,
  giveBack: (end: End) => void,
): End {
  const slot = aboutDescriptor(fd, () => adopt(fd));
  let end: End | undefined;
  try {
    end = make(slot);
    native.markCloseOnExec(slot);
    return end;
  } catch (error) {
    if (end === undefined) native.release(slot);
    else giveBack(end);
    native.unclaimed[Yielded.only] = 0;
    throw error;
  }
}
