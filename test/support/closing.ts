// Programs that close what their peers have sent, and peers whose descriptors block every process that closes them.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { DmaBufChannel } from 'dmabuf';
import { compiled } from './compiled.js';
import { MountPoint } from './mount-point.js';
import { Peer, programFile } from './peers.js';

/** An end of a connection: a channel or a stream. */
export interface End {
  readonly fd: number;
  close(): void;
}

// A socket lingers for a minute, and the file system never answers; a shorter pause is that of a busy machine.
export const mostPause = 30_000; // milliseconds

export interface Reported {
  ready?: boolean;
  worst: number;
  results: unknown[];
}

export interface Program {
  child: ChildProcess;
  next(): Promise<Reported>;
}

/** Starts a program with the ends as its descriptors from 3 on. */
export function start(command: string, args: string[], ends: readonly End[]): ChildProcess {
  return spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit', ...ends.map(({ fd }) => fd)] });
}

/** Starts a program of `test/support/programs` that closes in some way. */
export function startCloser(name: string, how: string, ends: readonly End[]): Program {
  const program = [process.execPath, programFile(name), how, `${ends.length}`];
  const limit = how === 'few' ? 'ulimit -n 256; ' : '';
  const child = start('sh', ['-c', `${limit}exec "$@"`, 'sh', ...program], ends);
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  return { child, next: async () => JSON.parse((await lines.next()).value) as Reported };
}

export function pairs(count: number): [DmaBufChannel[], DmaBufChannel[]] {
  const all = Array.from({ length: count }, () => DmaBufChannel.pair());
  return [all.map(([one]) => one), all.map(([, other]) => other)];
}

export async function endAll(...children: ChildProcess[]): Promise<void> {
  for (const child of children) {
    const ended = once(child, 'close');
    child.kill('SIGKILL');
    await ended;
  }
}

export function checkPause(t: TestContext, { worst }: Reported): void {
  t.diagnostic(`the event loop stood still for ${worst} ms at most`);
  assert.ok(worst < mostPause, `${worst} ms`);
}

/** A program with so many peers that have a silent file system each, and one more at the other end of `innocent`. */
export async function withSilentFiles<Of extends End>(
  name: string,
  makePairs: (count: number) => [Of[], Of[]],
  how: string,
  count: number,
  body: (fuses: [Peer, ...Peer[]], program: Program, innocent: Of) => Promise<void>,
): Promise<void> {
  const [here, there] = makePairs(count + 1);
  const innocent = there.pop() as Of;
  const mounts = there.map(() => new MountPoint());
  const fuses = mounts.map(
    ({ path }, index) => new Peer(compiled('silent-fuse'), [path, '0'], (there[index] as Of).fd),
  );
  const program = startCloser(name, how, here);
  for (const channel of [...here, ...there]) channel.close();
  try {
    for (const fuse of fuses) assert.equal(await fuse.line(), 'mounted');
    await program.next();
    await body(fuses as [Peer, ...Peer[]], program, innocent);
  } finally {
    innocent.close();
    for (const fuse of fuses) fuse.kill(); // first: a wait for them ends with them
    await endAll(program.child);
    for (const fuse of fuses) await fuse.ended;
    for (const mount of mounts) mount.remove();
  }
}
