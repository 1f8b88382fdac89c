// Where a server's socket is: a user who may write to a folder above can redirect the path between any two calls.

import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { DmaBufChannel } from 'dmabuf';
import { DmaBufChannel as OwnChannel } from '../../../../lib/channel/channel.js';
import { native } from '../../../../lib/native.js';
import { channelTest } from '../../../support/channel-test.js';
import { Folder } from '../../../support/channels.js';
import { throwsCode } from '../../../support/expect.js';
import { notRoot } from '../../../support/needs.js';
import { ForeignSocket } from '../../../support/sockets.js';

const watched = [
  ...(['openPlace', 'openInPlace', 'listenInPlace', 'isSocketAlive', 'lockPlace'] as const),
  ...(['removeInPlace', 'changeMode', 'removeSocket'] as const),
];
type Watched = (typeof watched)[number];

/** Calls `act` before the call of the addon with this number; says how many calls there were. */
function beforeCall(number: number, act: () => void, fn: () => void): number {
  void native.pageSize; // It is loaded then.
  const originals = new Map<Watched, unknown>();
  const patched = native as unknown as Record<string, unknown>;
  let calls = 0;
  for (const name of watched) {
    const original = native[name] as (...values: unknown[]) => unknown;
    originals.set(name, original);
    patched[name] = (...values: unknown[]) => {
      calls++;
      if (calls === number) act();
      return original(...values);
    };
  }
  try {
    fn();
  } finally {
    for (const [name, original] of originals) patched[name] = original;
  }
  return calls;
}

interface Trap {
  readonly what: string;
  make(path: string): Disposable | undefined;
}

const traps: readonly Trap[] = [
  { what: 'a file', make: (path) => writeFileSync(path, 'precious') as undefined },
  { what: 'a live socket', make: (path) => ForeignSocket.serve(path) },
  { what: 'a dead socket', make: (path) => ForeignSocket.leaveStale(path) as undefined },
];

/** Listens at `way/socket` and closes, while the link `way` is led from one folder to another before one of the calls. */
function listenOnTheWay({ make }: Trap, number: number, isStale: boolean): boolean {
  using folder = new Folder();
  for (const name of ['honest', 'trap']) mkdirSync(folder.file(name));
  if (isStale) ForeignSocket.leaveStale(folder.file('honest/socket'));
  const target = folder.file('trap/socket');
  using _trap = make(target);
  chmodSync(target, 0o600);
  const before = lstatSync(target);
  symlinkSync('trap', folder.file('other'));
  symlinkSync('honest', folder.file('way'));
  const lead = (): void => renameSync(folder.file('other'), folder.file('way'));
  const calls = beforeCall(number, lead, () => {
    try {
      OwnChannel.listen(folder.file('way/socket'), { mode: 0o666 }).close();
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'EADDRINUSE');
    }
  });
  const { ino, mode } = lstatSync(target);
  assert.deepEqual([ino, mode], [before.ino, before.mode], `before call ${number}`);
  return number < calls;
}

for (const trap of traps) {
  for (const isStale of [false, true]) {
    const where = isStale ? "over a dead server's file" : 'where nothing is';
    channelTest(`${trap.what} is not touched that the path is led to while a server begins ${where}`, () => {
      let number = 2; // before the first it is no more than what the path says
      while (listenOnTheWay(trap, number, isStale)) number++;
      assert.ok(number > 5);
    });
  }
}

channelTest(
  "another user's dead socket is not replaced, by root neither",
  () => {
    using folder = new Folder();
    ForeignSocket.leaveStale(folder.file());
    chownSync(folder.file(), 65534, 65534);
    const { ino } = lstatSync(folder.file());
    const { hint } = throwsCode(() => DmaBufChannel.listen(folder.file()), 'EADDRINUSE');
    assert.equal(
      hint,
      'A socket of the user 65534 is there, on which no server listens: remove it if it is not needed.',
    );
    assert.equal(lstatSync(folder.file()).ino, ino);
  },
  notRoot,
);

channelTest("a path with a slash at its end leaves a dead server's file alone", () => {
  using folder = new Folder();
  ForeignSocket.leaveStale(folder.file());
  const { ino } = lstatSync(folder.file());
  assert.throws(() => DmaBufChannel.listen(`${folder.file()}/`), { syscall: 'bind' });
  assert.equal(lstatSync(folder.file()).ino, ino);
});

// ---- a server's file is removed, whatever the path says by then

channelTest('a server whose folder was moved removes its file', () => {
  using folder = new Folder();
  mkdirSync(folder.file('before'));
  const server = DmaBufChannel.listen(folder.file('before/socket'));
  renameSync(folder.file('before'), folder.file('after'));
  assert.ok(existsSync(folder.file('after/socket')));
  server.close();
  assert.deepEqual(readdirSync(folder.file('after')), []);
});

/** Calls `fn` in a folder, by whatever way it has become the working directory. */
function inFolder(path: string, fn: () => void): void {
  const before = process.cwd();
  process.chdir(path);
  try {
    fn();
  } finally {
    process.chdir(before);
  }
}

function listensHere(): void {
  const server = DmaBufChannel.listen('socket');
  assert.ok(lstatSync('socket').isSocket());
  server.close();
  assert.deepEqual(readdirSync('.'), []);
}

channelTest('a server in a working directory whose name is no UTF-8 removes its file', () => {
  using folder = new Folder();
  const odd = Buffer.concat([Buffer.from(`${folder.path}/`), Buffer.from([0xff])]);
  mkdirSync(folder.file('plain'));
  inFolder(folder.file('plain'), () => {
    renameSync(folder.file('plain'), odd);
    try {
      listensHere();
    } finally {
      renameSync(odd, folder.file('plain'));
    }
  });
});

channelTest('a server listens in a working directory that lies too deep for a path', () => {
  using folder = new Folder();
  const name = 'x'.repeat(200);
  const depth = 25; // 5 000 bytes: PATH_MAX is 4 096
  inFolder(folder.path, () => {
    for (let level = 0; level < depth; level++) {
      mkdirSync(name);
      process.chdir(name);
    }
    try {
      listensHere();
    } finally {
      for (let level = 0; level < depth; level++) {
        process.chdir('..');
        rmdirSync(name);
      }
    }
  });
});
