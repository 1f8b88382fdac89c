import { createError, withAwaitersStack } from '../errors.js';
import { askedForAt, placeOfCall } from '../handle.js';
import { OwnPromise } from '../intrinsics.js';
import { native } from '../native.js';
import type { OpenFile } from '../open-file.js';
import { Queue, type Queued } from '../queue.js';
import type { Limits } from '../wait.js';

/** What an attempt returns that has to wait. */
export const again: unique symbol = Symbol('again');

/** What an attempt returns that has to wait for something that no descriptor tells. */
export const later: unique symbol = Symbol('later');

/** Milliseconds until such an attempt is made again. */
const pause = 2;

/**
 * Lets the event loop turn when no descriptor was left, and passes the error on: who tries again must let those run who
 * could close one.
 */
export async function letTurn(error: unknown): Promise<unknown> {
  const { code } = error as { code?: string };
  if (code === 'EMFILE' || code === 'ENFILE') await new OwnPromise<void>((resolve) => setImmediate(resolve));
  return error;
}

/** Whether an error is the signal's, which is passed on as it is. */
function isReason({ signal }: Limits, error: unknown): boolean {
  try {
    return signal !== undefined && signal.reason === error;
  } catch {
    return false;
  }
}

interface Place extends Queued<Place> {
  /** Tries; false when it has to wait. */
  advance(): boolean;
  fail(error: unknown): void;
}

/**
 * How much the lines of this thread may do in one turn of the event loop, all together: messages, handles, and every 4 KiB
 * of data. Peers that are many or fast enough would otherwise keep everything else in this process from running.
 */
const mostInTurn = 1024;
let left = mostInTurn;

/** What was done is so much, besides a message. */
export function spend(handles: number, bytes = 0): void {
  left -= handles + (bytes >>> 12);
}

/** Lines that wait for the next turn, in the order in which they get it. */
const overdue = new Queue<SocketLine>();
let isTurnDue = false;

function nextTurn(): void {
  left = mostInTurn;
  isTurnDue = false;
  for (let { length } = overdue; length > 0; length--) overdue.take()?.takeTurn();
}

/** Calls that wait in line for a socket, in one direction: first come, first served. */
export class SocketLine implements Queued<SocketLine> {
  isQueued = false;
  previous: SocketLine | undefined;
  next: SocketLine | undefined;
  readonly #file: OpenFile;
  /** As in DMA_BUF_SYNC: 1 reads, 2 writes. */
  readonly #direction: number;
  readonly #places = new Queue<Place>();
  #watch: number | undefined;
  #pause: NodeJS.Timeout | undefined;
  readonly #isKept: boolean;
  #isResting = false;

  /** @param isKept Whether the event loop keeps watching between calls: to start again costs a dozen system calls. */
  constructor(file: OpenFile, direction: 1 | 2, isKept = false) {
    this.#file = file;
    this.#direction = direction;
    this.#isKept = isKept;
  }

  /** Whether nobody waits, and there is something left to do in this turn of the event loop, or no time for another. */
  mayTry({ timeout }: Limits): boolean {
    if (this.#places.length > 0) return false;
    left--;
    return left >= 0 || timeout === 0;
  }

  /** Its turn has come, unless those before it have left nothing. */
  takeTurn(): void {
    this.#advance(0);
  }

  /** The next attempt is made a little later. */
  delay(): void {
    this.stopWatching();
    this.#pause ??= setTimeout(() => {
      this.#pause = undefined;
      this.#advance(0);
    }, pause);
  }

  /** Makes the attempt when it is its turn and the socket is ready, and again as long as it has to wait. */
  async run<T>(attempt: () => T | typeof again | typeof later, limits: Limits, what: string): Promise<T> {
    const site = placeOfCall();
    try {
      return await this.#file.run<T>(
        (done, fail) => {
          const place: Place = {
            advance: () => {
              const result = askedForAt(site, attempt);
              if (result === again) return false;
              if (result === later) {
                this.delay();
                return false;
              }
              this.#remove(place);
              done(0, result);
              return true;
            },
            fail: (error) => {
              this.#remove(place);
              fail(error);
            },
            isQueued: false,
            previous: undefined,
            next: undefined,
          };
          this.#places.add(place);
          try {
            this.#start();
          } catch (error) {
            this.#remove(place);
            throw error;
          }
          return () => this.#remove(place);
        },
        limits,
        {},
        what,
      );
    } catch (error) {
      await letTurn(error);
      throw isReason(limits, error) ? error : withAwaitersStack(error);
    }
  }

  #remove(place: Place): void {
    this.#places.remove(place);
    if (this.#places.length > 0) return;
    overdue.remove(this);
    clearTimeout(this.#pause);
    this.#pause = undefined;
    if (this.#isKept) this.#rest();
    else this.stopWatching();
  }

  /** Stops watching, unless another call comes before this turn of the event loop ends. */
  #rest(): void {
    if (this.#isResting || this.#watch === undefined) return;
    this.#isResting = true;
    setImmediate(() => {
      this.#isResting = false;
      if (this.#places.length === 0) this.stopWatching();
    });
  }

  /** After this, nothing of this line keeps the file open. */
  stopWatching(): void {
    if (this.#watch === undefined) return;
    native.cancelPoll(this.#watch);
    this.#watch = undefined;
  }

  #start(): void {
    if (this.#pause !== undefined) return;
    if (left <= 0) {
      if (!isTurnDue) setImmediate(nextTurn);
      isTurnDue = true;
      if (!this.isQueued) overdue.add(this);
      return;
    }
    const { slot } = this.#file;
    const onReady = (errno: number): void => {
      if (!this.#isKept || errno < 0) this.#watch = undefined;
      this.#advance(errno);
    };
    this.#watch ??= native.poll(slot, this.#direction, onReady, this.#isKept);
  }

  #advance(errno: number): void {
    // A pending error of the socket is told by the first attempt; where it is not, asking again would never end.
    let unexplained = errno < 0;
    // A call that is served or refused leaves the line.
    for (let place = this.#places.first; place !== undefined; place = this.#places.first) {
      if (left <= 0 && !unexplained) break;
      left--;
      try {
        if (!place.advance()) {
          if (!unexplained) break;
          place.fail(createError(errno, 'poll'));
        }
      } catch (error) {
        place.fail(error);
      }
      unexplained = false;
    }
    if (this.#places.length === 0) return;
    try {
      this.#start();
    } catch (error) {
      for (let place = this.#places.first; place !== undefined; place = this.#places.first) place.fail(error);
    }
  }
}
