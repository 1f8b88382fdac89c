import { createError, withAwaitersStack } from './errors.js';
import { askedForAt, placeOfCall } from './handle.js';
import { type NativeHandle, native } from './native.js';
import { type Limits, PendingWaits } from './wait.js';

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
  if (code === 'EMFILE' || code === 'ENFILE') await new Promise((resolve) => setImmediate(resolve));
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

interface Place {
  /** Tries; false when it has to wait. */
  advance(): boolean;
  fail(error: unknown): void;
}

/**
 * How much in a row may be done at once, in messages and handles. Then it waits in line, and so for the event loop: a
 * peer that is fast enough would otherwise keep everything else in this process from running.
 */
const mostAtOnce = 1024;

/** Calls that wait in line for a socket, in one direction: first come, first served. */
export class SocketLine {
  readonly #handle: NativeHandle;
  /** As in DMA_BUF_SYNC: 1 reads, 2 writes. */
  readonly #direction: number;
  readonly #places = new Set<Place>();
  readonly #waits = new PendingWaits();
  #watch: number | undefined;
  #atOnce = 0;
  #turn: NodeJS.Immediate | undefined;
  #pause: NodeJS.Timeout | undefined;
  #turnFirst = false;

  constructor(handle: NativeHandle, direction: 1 | 2) {
    this.#handle = handle;
    this.#direction = direction;
  }

  /** Whether nobody waits, and it is not time to let the event loop turn, or there is no time for it. */
  mayTry({ timeout }: Limits): boolean {
    if (this.#places.size > 0) return false;
    if (this.#atOnce++ < mostAtOnce || timeout === 0) return true;
    this.#atOnce = 0;
    this.#turnFirst = true;
    return false;
  }

  /** What was done at once was more than a message. */
  spend(handles: number): void {
    this.#atOnce += handles;
  }

  /** The next attempt is made a little later. */
  delay(): void {
    this.#pause ??= setTimeout(() => {
      this.#pause = undefined;
      this.#advance(0);
    }, pause);
  }

  /** Makes the attempt when it is its turn and the socket is ready, and again as long as it has to wait. */
  async run<T>(attempt: () => T | typeof again | typeof later, limits: Limits, what: string): Promise<T> {
    const site = placeOfCall();
    try {
      return await this.#waits.run<T>(
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

  /** The object of `type` is being closed. */
  close(type: string): void {
    this.#waits.rejectAll(type);
  }

  #remove(place: Place): void {
    this.#places.delete(place);
    if (this.#places.size > 0) return;
    clearImmediate(this.#turn);
    clearTimeout(this.#pause);
    this.#turn = undefined;
    this.#pause = undefined;
    if (this.#watch === undefined) return;
    native.cancelPoll(this.#watch);
    this.#watch = undefined;
  }

  #start(): void {
    if (this.#turn !== undefined || this.#pause !== undefined) return;
    if (this.#turnFirst) {
      this.#turnFirst = false;
      this.#turn = setImmediate(() => {
        this.#turn = undefined;
        this.#advance(0);
      });
      return;
    }
    this.#watch ??= native.poll(this.#handle, this.#direction, (errno) => {
      this.#watch = undefined;
      this.#advance(errno);
    });
  }

  #advance(errno: number): void {
    // A pending error of the socket is told by the first attempt; where it is not, asking again would never end.
    let unexplained = errno < 0;
    for (const place of this.#places) {
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
    if (this.#places.size === 0) return;
    try {
      this.#start();
    } catch (error) {
      for (const place of this.#places) place.fail(error);
    }
  }
}
