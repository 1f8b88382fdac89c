import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { descriptors, mappings, threads } from './proc.js';

/** The process's open descriptors and what each refers to; a dma-buf without its name, which may change. */
export function openFds(): Map<number, string> {
  const found = [...descriptors()];
  return new Map(
    found.map(([fd, target]) => [Number(fd), target.startsWith('/dmabuf:') ? '/dmabuf:' : target]),
  );
}

/** The names of a process's threads. */
export function threadNames(pid: number | 'self' = 'self'): string[] {
  return [...threads(pid).values()];
}

/** The addresses and buffers of the dma-buf mappings: what remains the same when a buffer is renamed. */
function mappedRanges(): string[] {
  return mappings().map((line) => line.slice(0, line.indexOf('/dmabuf:')).trimEnd());
}

interface Holdings {
  fds: string[];
  mappings: string[];
}

/** What malloc of glibc has open for a moment in any thread, when it gives memory back. */
const ofMalloc = '/proc/sys/vm/overcommit_memory';

function holdings(concerns: (target: string) => boolean): Holdings {
  const fds = [...openFds()].filter(([, target]) => target !== ofMalloc && concerns(target));
  return { fds: fds.map(([fd, target]) => `${fd} ${target}`), mappings: mappedRanges() };
}

const pause = new Int32Array(new SharedArrayBuffer(4));

const isClosing = (): boolean => threadNames().includes('dmabuf-close');

/**
 * What is held once what the addon may be closing on threads of its own has gone: where there are such threads, whatever is
 * more than `before`; what is no dma-buf and no heap, also where none could be made yet.
 */
function holdingsAfter(before: Holdings, concerns: (target: string) => boolean): Holdings {
  for (let tries = 0; ; tries++) {
    const closing = isClosing();
    const now = holdings(concerns);
    const more = now.fds.filter((fd) => !before.fds.includes(fd));
    const isOurs = more.some((fd) => / \/(dmabuf:|dev\/dma_heap\/)/.test(fd));
    if (more.length === 0 || (isOurs && !closing) || tries === 5000) return now;
    Atomics.wait(pause, 0, 0, 1);
  }
}

/** Where a thread waits, it stays, with the set of what is watched and how it is woken. */
const kept =
  process.env.DMABUF_TEST_WAITING === 'thread' ? ['anon_inode:[eventpoll]', 'anon_inode:[eventfd]'] : [];

/** Takes what the first wait has made for there from the start. */
function expectKept(before: Holdings, now: Holdings): void {
  for (const [index, target] of kept.entries()) {
    const made = now.fds.find((fd) => fd.endsWith(` ${target}`) && !before.fds.includes(fd));
    if (made === undefined) continue;
    kept.splice(index, 1);
    now.fds.splice(now.fds.indexOf(made), 1);
    expectKept(before, now);
    return;
  }
}

/** Has what an earlier test gave up closed first, which must not count: a thread that closes ends when nothing is left. */
function settledHoldings(concerns: (target: string) => boolean): Holdings {
  for (let tries = 0; tries < 5000 && isClosing(); tries++) Atomics.wait(pause, 0, 0, 1);
  return holdings(concerns);
}

function checkSame<T>(fn: () => T, concerns: (target: string) => boolean): T {
  const before = settledHoldings(concerns);
  const check = (): void => {
    const now = holdingsAfter(before, concerns);
    expectKept(before, now);
    assert.deepEqual(now, before, 'something was left behind');
  };
  const result = fn();
  if (result instanceof Promise) {
    return result.then((value) => {
      check();
      return value;
    }) as T;
  }
  check();
  return result;
}

/** Asserts that descriptors of any kind and dma-buf mappings are the same after `fn` as before. */
export function leavesNothing<T>(fn: () => T): T {
  return checkSame(fn, () => true);
}

/** Asserts that descriptors of dma-bufs and heaps, and dma-buf mappings, are the same after `fn` as before. */
export function leavesNoBuffer<T>(fn: () => T): T {
  return checkSame(fn, (target) => target.startsWith('/dmabuf:') || target.startsWith('/dev/dma_heap/'));
}

/** The flags of a descriptor as /proc shows them. */
export function flagsOf(fd: number): number {
  const [, octal] = /^flags:\t(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')) ?? [];
  assert.ok(octal !== undefined);
  return Number.parseInt(octal, 8);
}

/** O_CLOEXEC of Linux, on every architecture but alpha, parisc and sparc. */
export const closeOnExec = 0o2000000;

/** Has `open` return the number `fd`, which is free, by opening until it comes. */
export function openAt(fd: number, open: () => number): void {
  const others: number[] = [];
  for (let opened = open(); opened !== fd; opened = open()) {
    assert.ok(opened < fd, `the kernel gave ${opened}, not the lowest free number`);
    others.push(opened);
  }
  for (const other of others) closeSync(other);
}

/** Closes `fd` behind its owner's back and has `open` return the same number for something else. */
export function reuse(fd: number, open: () => number): void {
  closeSync(fd);
  openAt(fd, open);
}

export const openNull = (): number => openSync('/dev/null', 'r');

/** Closes `fd` behind its owner's back and has /dev/null take its number. The caller closes that. */
export function replaceByStranger(fd: number): void {
  reuse(fd, openNull);
}

/** Opens files until there is no descriptor left, and returns them. */
export function takeDescriptors(): number[] {
  const taken: number[] = [];
  for (;;) {
    try {
      taken.push(openNull());
    } catch {
      return taken;
    }
  }
}

/** A number that is no open descriptor. */
export const notOpen = 987_654;

/** Where child processes get a buffer: Node marks the first 16 descriptors close-on-exec when it starts. */
export const inheritedFd = 40;
