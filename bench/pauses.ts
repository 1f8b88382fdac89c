// The guest's side of `npm run pauses`: attacks a process in every way, with one peer and with many, and prints how
// long its event loop was blocked at most, as a line of JSON for each attack. argv: parts of the names of attacks;
// without any, all run.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { DmaBufChannel, FdStream } from 'dmabuf';
import { compiled } from '../test/support/compiled.js';
import { Peer } from '../test/support/peers.js';

/**
 * What a message brings: nothing harmful, TCP sockets that linger, files of a file system that never answers, or such a socket
 * and files of many file systems.
 */
type Files = 'null' | 'socket' | 'fuse' | 'devices';

interface Attack {
  readonly name: string;
  /** What the victim does; see victim.ts. */
  readonly how: string;
  readonly files?: Files;
  readonly bytes?: number;
  readonly messages?: number;
  readonly descriptors?: number;
  /** Over which sockets; the default is channels. */
  readonly sockets?: 'channels' | 'streams';
}

/** An end of a connection. */
type End = DmaBufChannel | FdStream;

/** A pause in milliseconds. */
export interface Pause {
  name: string;
  files: Files | undefined;
  /** How many each peer has sent. */
  descriptors: number | undefined;
  peers: number;
  pause: number;
}

const usual = { bytes: 1, messages: 2, descriptors: 32 };

function withEach(name: string, how: string, files: Files[], more: Partial<Attack> = {}): Attack[] {
  return files.map((each) => ({ name, how, files: each, ...usual, ...more }));
}

const all: Files[] = ['null', 'socket', 'fuse'];
const full = { descriptors: 253 };
const many = { messages: 16, descriptors: 253 };
const streams = { sockets: 'streams' } as const;
const attacks: Attack[] = [
  { name: 'nothing', how: 'nothing' },
  ...withEach('messages that are received, and their numbers closed', 'receive', all),
  ...withEach(
    'full messages that are received, and their numbers closed',
    'receive',
    ['null', 'devices'],
    full,
  ),
  ...withEach('messages that are refused', 'receive', all, { bytes: 101 }),
  ...withEach('16 full messages that are refused', 'receive', ['null'], { bytes: 101, ...many }),
  ...withEach('messages in the queue of a channel that is closed', 'close', all),
  ...withEach('16 full messages in the queue of a channel that is closed', 'close', ['null'], many),
  ...withEach('numbers given to closeHandles()', 'numbers', all),
  ...withEach('messages while no descriptor is free', 'full', all),
  ...withEach('process.exit(), until the process is gone', 'exit', ['null', 'socket']),
  ...withEach('bytes of a stream that are received, and their numbers closed', 'receive', all, streams),
  ...withEach('the same with 253 descriptors each', 'receive', ['null', 'devices'], { ...full, ...streams }),
  ...withEach('bytes in the queue of a stream that is destroyed', 'close', all, streams),
  ...withEach('16 full sends in the queue of a stream', 'close', ['null'], { ...many, ...streams }),
  ...withEach('descriptors that nobody takes from a stream that is read', 'flow', all, streams),
  ...withEach('more of them than maxHandles', 'flow', ['null', 'devices'], { ...many, ...streams }),
  ...withEach('numbers from a stream given to closeHandles()', 'numbers', all, streams),
  ...withEach('bytes of a stream while no descriptor is free', 'full', all, streams),
];

function linesOf(child: ChildProcess): () => Promise<string> {
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  return async () => {
    const { value } = await lines.next();
    if (value === undefined) throw new Error(`${child.spawnargs.join(' ')} said nothing`);
    return value as string;
  };
}

/** Starts a program that has the ends as its descriptors from 3 on. */
function start(
  command: string,
  args: string[],
  ends: End[],
): { child: ChildProcess; line: () => Promise<string> } {
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'inherit', ...ends.map(({ fd }) => fd)],
  });
  return { child, line: linesOf(child) };
}

/** Sends everything, and returns a function that ends the senders. */
type Sent = () => Promise<void>;

async function sendFromOne(attack: Attack, ends: End[]): Promise<Sent> {
  const { child, line } = start(compiled('lingerer'), [`${ends.length}`], ends);
  const { bytes, messages, descriptors, files } = attack;
  child.stdin?.write(`flood ${bytes} ${messages} ${descriptors} ${files}\n`);
  await line();
  return async () => {
    const ended = once(child, 'close');
    child.kill('SIGKILL');
    await ended;
  };
}

/** One file system for each file, since files of one device wait for one another anyway. */
async function sendFromSilentFiles(attack: Attack, ends: End[]): Promise<Sent> {
  const { bytes, messages = 0, descriptors = 0 } = attack;
  const peers: { peer: Peer; folder: string }[] = [];
  for (const { fd } of ends) {
    const folder = mkdtempSync(join(tmpdir(), 'dmabuf-pauses-'));
    chmodSync(folder, 0o755);
    const peer = new Peer(compiled('silent-fuse'), [folder, '0'], fd);
    await peer.line();
    for (let count = 0; count < messages; count++)
      await peer.have(`send ${bytes}${' file'.repeat(descriptors)}`);
    peers.push({ peer, folder });
  }
  return async () => {
    for (const { peer, folder } of peers) {
      peer.kill();
      await peer.ended;
      try {
        rmSync(folder, { recursive: true });
      } catch {
        // This is a mount that no process serves.
      }
    }
  };
}

async function pauseUnder(attack: Attack, peers: number): Promise<number> {
  const { sockets = 'channels' } = attack;
  const makePair: () => [End, End] =
    sockets === 'streams' ? () => FdStream.pair() : () => DmaBufChannel.pair();
  const pairs = Array.from({ length: peers }, makePair);
  const theirs = pairs.map(([one]) => one);
  let end: Sent = async () => {};
  if (attack.files !== undefined) {
    const send = attack.files === 'fuse' ? sendFromSilentFiles : sendFromOne;
    end = await send(attack, theirs);
  }
  const limit = attack.how === 'full' ? peers + 400 : 1 << 20;
  const victim = start(
    'prlimit',
    [
      `--nofile=${limit}`,
      process.execPath,
      fileURLToPath(new URL('victim.js', import.meta.url)),
      attack.how,
      `${peers}`,
      `${attack.messages ?? 0}`,
      sockets,
    ],
    pairs.map(([, other]) => other),
  );
  for (const end of pairs.flat()) end.close();
  await victim.line();
  const gone = once(victim.child, 'exit');
  victim.child.stdin?.write('go\n');
  const said = await victim.line();
  let pause = Number(said);
  if (said === 'exits') {
    const begin = performance.now();
    await gone;
    pause = performance.now() - begin;
  } else {
    victim.child.kill('SIGKILL');
  }
  await end(); // first: a wait for them ends with them
  await gone;
  return pause;
}

const wanted = process.argv.slice(2);
for (const attack of attacks) {
  if (wanted.length > 0 && !wanted.some((part) => `${attack.name} ${attack.files}`.includes(part))) continue;
  for (const peers of [1, 64]) {
    const { name, files, messages, descriptors } = attack;
    const pause: Pause = {
      name,
      files,
      descriptors: messages === undefined ? undefined : messages * (descriptors ?? 0),
      peers,
      pause: await pauseUnder(attack, peers),
    };
    console.log(JSON.stringify(pause));
  }
}
