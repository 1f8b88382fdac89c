// Loaded before every test file (scripts/test.mjs): a file that leaves descriptors, mappings of dma-bufs or threads behind
// fails, whatever its tests say. What the process has for good is there before the first look, by warming it up.

import { once } from 'node:events';
import { readdirSync, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { isMainThread } from 'node:worker_threads';
import { collectGarbage } from './event-loop.js';
import { madeHere } from './made-here.js';
import { descriptors, mappings, readProc, threads } from './proc.js';

/** Descriptors by number, and how many of each kind of mapping and thread. */
interface Belongings {
  readonly fds: ReadonlyMap<string, string>;
  readonly mappings: ReadonlyMap<string, string>;
  readonly threads: ReadonlyMap<string, string>;
}

/** The main thread of a test file: not `node --test` itself, nor what a test starts. */
function isTestFile(): boolean {
  return (
    isMainThread &&
    process.env.NODE_TEST_CONTEXT !== undefined &&
    /\.test\.js$/.test(process.argv[1] ?? '') &&
    process.env.DMABUF_TEST_FILE === undefined
  );
}

/** What a descriptor refers to, and which: a number that now stands for another was lost and left. */
function identity(fd: string, target: string): string {
  if (!target.startsWith('/dmabuf:')) return target;
  try {
    // By its inode, since its name may change.
    return `/dmabuf: inode ${/^ino:\t(\d+)$/m.exec(readProc(`/proc/self/fdinfo/${fd}`))?.[1]}`;
  } catch {
    return '/dmabuf: closed since';
  }
}

function belongings(): Belongings {
  return {
    fds: new Map([...descriptors()].map(([fd, target]) => [fd, identity(fd, target)])),
    mappings: new Map(mappings().map((line) => [line.split(' ', 1)[0] as string, line])),
    threads: threads(),
  };
}

/**
 * What the package makes for good: so many of these may be new. The heap that allocate() keeps open, once in the bundle and once
 * in lib; and what the first wait makes where a thread waits (lib/native.ts).
 */
const kept: readonly RegExp[] = [
  /^descriptor \d+: \/dev\/dma_heap\/system$/,
  /^descriptor \d+: \/dev\/dma_heap\/system$/,
  ...(process.env.DMABUF_TEST_WAITING === 'thread'
    ? [/^descriptor \d+: anon_inode:\[eventpoll\]$/, /^descriptor \d+: anon_inode:\[eventfd\]$/, /^thread /]
    : []),
];

/** Without one of each kind that is kept. */
function withoutKept(left: readonly string[]): string[] {
  const rest = [...left];
  for (const kind of kept) {
    const index = rest.findIndex((one) => kind.test(one));
    if (index >= 0) rest.splice(index, 1);
  }
  return rest;
}

function leftBehind(before: Belongings, now: Belongings): string[] {
  const left: string[] = [];
  for (const [fd, target] of now.fds) {
    if (before.fds.get(fd) !== target) left.push(`descriptor ${fd}: ${target}`);
  }
  for (const [fd, target] of before.fds) {
    if (!now.fds.has(fd)) left.push(`descriptor ${fd}, closed though it is not the file's: ${target}`);
  }
  for (const [range, line] of now.mappings) if (!before.mappings.has(range)) left.push(`mapping ${line}`);
  for (const [id, name] of now.threads) {
    if (!before.threads.has(id)) left.push(`thread ${id}: ${name}`);
  }
  return withoutKept(left);
}

/** Has libuv make what it keeps: its threads, its pipe for signals, the descriptor that it spares for accept(2). */
async function warmUp(): Promise<void> {
  const onSignal = (): void => {};
  process.on('SIGUSR2', onSignal).off('SIGUSR2', onSignal);
  const server = createServer().listen(`\0dmabuf-test-${process.pid}`);
  await once(server, 'listening');
  await once(server.close(), 'close');
  const jobs = 2 * Number(process.env.UV_THREADPOOL_SIZE ?? 4);
  await Promise.all(Array.from({ length: jobs }, () => stat('/')));
}

/** In a guest: whoever reads the kernel's log sees which file ran when it said something (scripts/kernel-log.mjs). */
function noteInKernelLog(file: string): void {
  if (process.env.DMABUF_VM === undefined) return;
  try {
    writeFileSync('/dev/kmsg', `<4>dmabuf: test file ${file.replace(/^.*\/dist\/test\//, '')}`);
  } catch {
    // A kernel without it, or not root.
  }
}

async function watch(): Promise<void> {
  // Not for what a test starts with fork(), which loads this as well.
  process.env.DMABUF_TEST_FILE = process.argv[1];
  noteInKernelLog(process.argv[1] ?? '');
  await warmUp();
  const before = belongings();

  // The loop is empty: the last hook is over. What closes asynchronously, and threads that end when they have nothing to do,
  // get some turns, which bring this event again: some seconds, many more than they take on a busy machine, but where
  // a test of this file wants something left.
  const most = Number(process.env.DMABUF_TEST_TURNS ?? 600);
  let turns = 0;
  const onBeforeExit = (): void => {
    if (turns === 0) collectGarbage();
    if (turns > most || leftBehind(before, belongings()).length === 0) return;
    turns++;
    setTimeout(() => {}, turns < 20 ? 0 : 10);
  };
  process.on('beforeExit', onBeforeExit);
  const since = new Map<string, string>();
  process.on('exit', () => {
    const left = leftBehind(before, belongings()).map((one) => {
      const name = since.get(one);
      return name === undefined ? one : `${one}, there since the test “${name}”`;
    });
    tell(left);
    if (left.length === 0) return;
    process.exitCode ||= 1;
    process.stderr.write(`left behind at the end of ${process.argv[1]}:\n  ${left.join('\n  ')}\n`);
  });

  // A hook of no suite concerns every test. What is opened for the whole file is seen here too, and is gone at the end.
  const { afterEach } = await import('node:test');
  const open = (): string => [...descriptors(), readdirSync('/proc/self/task')].join();
  let known = open();
  afterEach(({ name }) => {
    const found = open();
    // A whole look takes longer than most tests.
    if (found === known) return;
    known = found;
    const left = leftBehind(before, belongings());
    for (const one of since.keys()) if (!left.includes(one)) since.delete(one);
    for (const one of left) if (!since.has(one)) since.set(one, name);
  });
}

/** Says to scripts/reporter.mjs that the file has come to its end, and how. */
function tell(left: readonly string[]): void {
  const folder = process.env.DMABUF_TEST_FILES;
  if (folder === undefined) return;
  const what = { file: process.argv[1], ms: performance.now(), left, made: madeHere };
  writeFileSync(`${folder}/${process.pid}`, JSON.stringify(what));
}

if (isTestFile()) await watch();
