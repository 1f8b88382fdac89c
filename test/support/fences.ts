import { closeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { isMainThread, workerData } from 'node:worker_threads';
import type { DmaBuf } from 'dmabuf';
import { turns } from './event-loop.js';
import { kernelTest, type TestBody } from './kernel-test.js';
import { whyNot } from './needs.js';
import { packageRoot } from './programs.js';

/** The addon of test/fences: real fences of the kernel's vgem module. Buffers and fences are numbers of a device. */
interface FencesAddon {
  open(): number;
  importBuffer(device: number, fd: number): number;
  closeBuffer(device: number, handle: number): void;
  createBuffer(device: number): number;
  attach(device: number, handle: number, write: 0 | 1): number;
  signal(device: number, fence: number): void;
  makeMemfd(size: number, sealing: 0 | 1, seals: number): number;

  /** What Node has no call for; sockets.ts says it in words. Addresses are a path's bytes, or NUL and a name's. */
  makeSocket(domain: number, type: number): number;
  makeSocketPair(type: number): number;
  bindSocket(fd: number, address: Uint8Array): void;
  connectSocket(fd: number, address: Uint8Array): void;
  listenOn(fd: number, backlog: number): void;
  acceptFrom(fd: number): number;
  shutDown(fd: number, how: number): void;
  setOption(fd: number, option: number, value: number): void;
  sendOn(fd: number, data: Uint8Array, fds: Int32Array): void;

  /** Any ioctl(2); its argument is a number, or bytes that the kernel reads and writes. */
  control(fd: number, request: number, argument: number | Uint8Array): number;

  /** Bus errors; faults.ts says it in words. */
  loseMemory(address: number, length: number): void;
  catchFaults(): void;
  fault(): number;
}

let addon: FencesAddon | undefined;
let opened = -1;

/** The addon alone: no fence is needed for some of what it does. */
export function loadFences(): FencesAddon {
  const file = join(packageRoot, 'test/fences/build/Release/fences.node');
  addon ??= createRequire(import.meta.url)(file) as FencesAddon;
  return addon;
}

/** Until the process has nothing more to do, or ends: before end-of-file.ts looks. */
function openForProcess(fences: FencesAddon): number {
  const device = fences.open();
  const close = (): void => {
    if (opened !== device) return;
    closeSync(device);
    opened = -1;
  };
  if (isMainThread) process.prependListener('beforeExit', close).prependListener('exit', close);
  return device;
}

function open(): FencesAddon {
  const fences = loadFences();
  // A worker uses the device of the thread that started it, which may then signal the worker's fences.
  if (opened < 0)
    opened = (workerData as { fenceDevice?: number } | null)?.fenceDevice ?? openForProcess(fences);
  return fences;
}

/** Why no fences can be made here; false when they can. */
export const noFences: string | false = whyNot(
  open,
  (message: string) => `no fences here: ${message} (the module vgem, npx node-gyp rebuild -C test/fences)`,
);

/** The device's descriptor: for a worker's `workerData`, as `fenceDevice`. */
export function fenceDevice(): number {
  open();
  return opened;
}

/** A fence that only the test signals. The kernel does it after 10 s; then `signal()` throws ETIMEDOUT. */
export class Fence implements Disposable {
  readonly number: number;
  #pending = true;

  constructor(number: number) {
    this.number = number;
  }

  /** The device is done. Fails when the kernel lost patience first: then somebody blocked this thread. */
  signal(): void {
    this.#pending = false;
    open().signal(opened, this.number);
  }

  [Symbol.dispose](): void {
    try {
      if (this.#pending) this.signal();
    } catch {
      // The kernel was first, and the test has failed for another reason or did not care.
    }
  }
}

/** Several fences, signalled together. */
export function signalAll(fences: readonly Fence[]): void {
  for (const fence of fences) fence.signal();
}

/** A device begins to read the buffer, or to write it. One that writes tolerates no other, as far as vgem knows. */
export function addFence(buffer: DmaBuf, access: 'read' | 'write'): Fence {
  const { importBuffer, attach, closeBuffer } = open();
  const handle = importBuffer(opened, buffer.fd);
  try {
    return new Fence(attach(opened, handle, access === 'write' ? 1 : 0));
  } finally {
    closeBuffer(opened, handle);
  }
}

/** The descriptor of a buffer that the DRM device exports. */
export function drmBufferFd(): number {
  return open().createBuffer(opened);
}

/** A `kernelTest` that needs fences. */
export function fenceTest(name: string, body: TestBody): void {
  kernelTest(
    name,
    async (t) => {
      await body(t);
      await turns();
    },
    noFences,
  );
}
