import { constants } from 'node:os';
import { checkFlag } from '../check.js';
import { atCallSite, type CallSite, createError, DmaBufError } from '../errors.js';
import { askedForAt } from '../handle.js';
import { min } from '../intrinsics.js';
import { type NativeHandle, native } from '../native.js';
import { checkWaitOptions, type Done, PendingWaits, type WaitOptions, waitOptions } from '../wait.js';
import { makeOrClose } from './ends.js';
import { atPath, socketAddress } from './socket-place.js';

/** How to connect. */
export interface ConnectOptions extends WaitOptions {
  /**
   * Waits for a server that is not there yet: while nobody listens (`ENOENT`, `ECONNREFUSED`), tries again, after 10 ms at
   * first, and every 250 ms in the end. Without `timeout` or `signal` that may be for ever. Default: false.
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
/** And those at most until it is tried again whether anybody listens. */
const mostPause = 250;

const isAbsent = (error: unknown): boolean =>
  error instanceof DmaBufError && (error.code === 'ENOENT' || error.code === 'ECONNREFUSED');

/** What shall be connected to. */
interface Target {
  path: string;
  isStream: boolean;
}

/** A connection that is being made: whatever it waits for, nothing of it stays once it is stopped. */
class Connecting<Channel extends Disposable> {
  readonly #address: Uint8Array;
  readonly #target: Target;
  readonly #retry: boolean;
  readonly #toChannel: (handle: NativeHandle) => Channel;
  #pause = tryEvery;
  #stop = (): void => {};

  constructor(target: Target, retry: boolean, toChannel: (handle: NativeHandle) => Channel) {
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

  #settle(connect: () => NativeHandle, done: Done<Channel>, fail: (error: unknown) => void): void {
    this.#stop = () => {};
    let handle: NativeHandle;
    native.registers[0] = 0;
    try {
      handle = connect();
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
      if (handle < 0) {
        this.#tryLater(done, fail, tryEvery);
      } else if (native.registers[0] === 1) {
        this.#await(handle, done, fail);
      } else {
        const channel = this.#toChannel(handle);
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
  #await(lookup: NativeHandle, done: Done<Channel>, fail: (error: unknown) => void): void {
    native.unclaimed[0] = 0;
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
 * Connects, and makes what was connected of the handle. The options have been read, and are checked here.
 *
 * @param site Where the user asked for it.
 */
export async function connectTo<Channel extends Disposable>(
  target: Target,
  { retry, ...rest }: ConnectOptions,
  site: CallSite,
  toChannel: (handle: NativeHandle) => Channel,
): Promise<Channel> {
  const connecting = new Connecting(target, checkFlag(retry, 'retry'), (handle) =>
    askedForAt(site, () => makeOrClose(handle, toChannel)),
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
