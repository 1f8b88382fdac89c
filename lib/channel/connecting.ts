import { constants } from 'node:os';
import { checkFlag } from '../check.js';
import { atCallSite, type CallSite, createError, DmaBufError } from '../errors.js';
import { askedForAt } from '../handle.js';
import { min } from '../intrinsics.js';
import { native, Register, type Slot, Yielded } from '../native.js';
import { checkWaitOptions, type Done, PendingWaits, type WaitOptions, waitOptions } from '../wait.js';
import { makeOrClose } from './ends.js';
import { atPath, socketAddress } from './socket-place.js';

/** How to connect. */
export interface ConnectOptions extends WaitOptions {
  /**
   * Whether to wait for a server that is not there yet: while no server listens (`ENOENT`, `ECONNREFUSED`), `connect()` tries
   * again, at first after 10 ms, and in the end every 250 ms. Without `timeout` or `signal` it may wait forever. Default:
   * false.
   */
  retry?: boolean | undefined;
}

/** The names of the options. */
export const connectOptions: readonly string[] = [...waitOptions, 'retry'];

/** Milliseconds after which it is looked whether a lookup still waits for a thread, or is over and nobody was told. */
const lookEvery = 1000;
const keptOut = 1;
const over = 2;
/** Milliseconds until a server whose queue is full is tried again: no event tells when there is room. */
const tryEvery = 10;
/** The most milliseconds between two attempts to connect to a server that is not there yet. */
const mostPause = 250;

const isAbsent = (error: unknown): boolean =>
  error instanceof DmaBufError && (error.code === 'ENOENT' || error.code === 'ECONNREFUSED');

/** What to connect to. */
interface Target {
  path: string;
  isStream: boolean;
}

/** A connection that is being made: whatever it waits for, nothing of it stays once it is stopped. */
class Connecting<Channel extends Disposable> {
  readonly #address: Uint8Array;
  readonly #target: Target;
  readonly #retry: boolean;
  readonly #toChannel: (slot: Slot) => Channel;
  #pause = tryEvery;
  #stop = (): void => {};

  constructor(target: Target, retry: boolean, toChannel: (slot: Slot) => Channel) {
    this.#address = socketAddress(target.path);
    this.#target = target;
    this.#retry = retry;
    this.#toChannel = toChannel;
  }

  /** Returns how to stop it. */
  start(done: Done<Channel>, fail: (error: unknown) => void): () => void {
    this.#try(done, fail);
    return () => this.#stop();
  }

  #try(done: Done<Channel>, fail: (error: unknown) => void): void {
    this.#settle(() => native.connect(this.#address, this.#target.isStream), done, fail);
  }

  #settle(connect: () => Slot, done: Done<Channel>, fail: (error: unknown) => void): void {
    this.#stop = () => {};
    let slot: Slot;
    native.registers[Register.isLookup] = 0;
    try {
      slot = connect();
    } catch (error) {
      if (this.#retry && isAbsent(error)) {
        this.#tryLater(done, fail, this.#pause);
        this.#pause = min(2 * this.#pause, mostPause);
      } else {
        fail(atPath(error, this.#target.path));
      }
      return;
    }
    try {
      if (slot < 0) {
        this.#tryLater(done, fail, tryEvery);
      } else if (native.registers[Register.isLookup] === 1) {
        this.#await(slot, done, fail);
      } else {
        const channel = this.#toChannel(slot);
        if (!done(0, channel)) channel[Symbol.dispose]();
      }
    } catch (error) {
      fail(error);
    }
  }

  #tryLater(done: Done<Channel>, fail: (error: unknown) => void, pause: number): void {
    const timer = setTimeout(() => this.#try(done, fail), pause);
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
      wait = native.poll(lookup, 1, finish, false);
      timer = setInterval(() => {
        const state = native.connectingState(lookup);
        if (state === keptOut) fail(createError(-constants.errno.EBUSY, 'connect', this.#target.path));
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

/**
 * Connects, and makes an object of the connection's slot. The options have been read, and are checked here.
 *
 * @param site Where the user called.
 */
export async function connectTo<Channel extends Disposable>(
  target: Target,
  { retry, ...rest }: ConnectOptions,
  site: CallSite,
  toChannel: (slot: Slot) => Channel,
): Promise<Channel> {
  const connecting = new Connecting(target, checkFlag(retry, 'retry'), (slot) =>
    askedForAt(site, () => makeOrClose(slot, toChannel)),
  );
  const limits = checkWaitOptions(rest);
  return await new PendingWaits().run<Channel>(
    (done, fail) =>
      connecting.start(done, (error) => fail(error instanceof DmaBufError ? atCallSite(error, site) : error)),
    limits,
    site,
    `connecting to ${target.path}`,
  );
}
