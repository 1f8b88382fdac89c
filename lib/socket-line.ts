import { createError, withAwaitersStack } from './errors.js';
import { askedForAt, placeOfCall } from './handle.js';
import { type NativeHandle, native } from './native.js';
import { PendingWaits, type WaitOptions } from './wait.js';

/** What an attempt returns that has to wait. */
export const again: unique symbol = Symbol('again');

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

  constructor(handle: NativeHandle, direction: 1 | 2) {
    this.#handle = handle;
    this.#direction = direction;
  }

  /** Whether nobody waits, and it is not time to let the event loop turn. */
  get free(): boolean {
    if (this.#places.size > 0) return false;
    if (this.#atOnce < mostAtOnce) return true;
    this.#atOnce = 0;
    return false;
  }

  /** Something was done at once. */
  spend(amount: number): void {
    this.#atOnce += amount;
  }

  /** Makes the attempt when it is its turn and the socket is ready, and again as long as it has to wait. */
  async run<T>(attempt: () => T | typeof again, limits: WaitOptions, what: string): Promise<T> {
    const site = placeOfCall();
    try {
      return await this.#waits.run<T>(
        (done, fail) => {
          const place: Place = {
            advance: () => {
              const result = askedForAt(site, attempt);
              if (result === again) return false;
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
      throw withAwaitersStack(error);
    }
  }

  /** The object of `type` is being closed. */
  close(type: string): void {
    this.#waits.rejectAll(type);
  }

  #remove(place: Place): void {
    this.#places.delete(place);
    if (this.#places.size > 0 || this.#watch === undefined) return;
    native.cancelPoll(this.#watch);
    this.#watch = undefined;
  }

  #start(): void {
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
