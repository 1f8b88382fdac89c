import { constants } from 'node:os';
import { createError } from '../errors.js';
import { native, Register, type Slot, Yielded } from '../native.js';
import type { Done } from '../wait.js';
import { atPath } from './socket-place.js';

/** Milliseconds after which it is looked whether a lookup still waits for a thread, or is over and nobody was told. */
const lookEvery = 1000;
const keptOut = 1;
const over = 2;
/** Milliseconds until a server whose queue is full is tried again: no event tells when there is room. */
const tryEvery = 10;

/** A connection that is being made: whatever it waits for, nothing of it stays once it is stopped. */
export class Connecting<Channel extends { close(): void }> {
  readonly #address: Uint8Array;
  readonly #path: string;
  readonly #toChannel: (slot: Slot) => Channel;
  #stop = (): void => {};

  constructor(address: Uint8Array, path: string, toChannel: (slot: Slot) => Channel) {
    this.#address = address;
    this.#path = path;
    this.#toChannel = toChannel;
  }

  /** Returns how to stop it. */
  start(done: Done<Channel>, fail: (error: unknown) => void): () => void {
    this.#try(done, fail);
    return () => this.#stop();
  }

  #try(done: Done<Channel>, fail: (error: unknown) => void): void {
    this.#settle(() => native.connect(this.#address), done, fail);
  }

  #settle(connect: () => Slot, done: Done<Channel>, fail: (error: unknown) => void): void {
    this.#stop = () => {};
    let slot: Slot;
    native.registers[Register.isLookup] = 0;
    try {
      slot = connect();
    } catch (error) {
      fail(atPath(error, this.#path));
      return;
    }
    try {
      if (slot < 0) {
        this.#tryLater(done, fail);
      } else if (native.registers[Register.isLookup] === 1) {
        this.#await(slot, done, fail);
      } else {
        const channel = this.#toChannel(slot);
        if (!done(0, channel)) channel.close();
      }
    } catch (error) {
      fail(error);
    }
  }

  #tryLater(done: Done<Channel>, fail: (error: unknown) => void): void {
    const timer = setTimeout(() => this.#try(done, fail), tryEvery);
    this.#stop = () => clearTimeout(timer);
  }

  /** A thread looks up the path, which may take for ever. */
  #await(lookup: Slot, done: Done<Channel>, fail: (error: unknown) => void): void {
    native.unclaimed[Yielded.only] = 0;
    let timer: NodeJS.Timeout | undefined;
    let wait: number | undefined;
    this.#stop = () => {
      clearInterval(timer);
      if (wait !== undefined) native.cancelPoll(wait);
      native.close(lookup);
    };
    try {
      const finish = (): void => {
        clearInterval(timer);
        this.#settle(() => native.finishConnecting(lookup), done, fail);
      };
      wait = native.poll(lookup, 1, finish);
      timer = setInterval(() => {
        const state = native.connectingState(lookup);
        if (state === keptOut) fail(createError(-constants.errno.EBUSY, 'connect', this.#path));
        if (state !== over) return;
        native.cancelPoll(wait as number);
        finish();
      }, lookEvery);
    } catch (error) {
      this.#stop();
      throw error;
    }
  }
}
