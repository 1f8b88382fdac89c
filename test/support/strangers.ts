import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The kernel adds O_DIRECTORY, whose number depends on the architecture. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

/** Open descriptors of every kind that is no dma-buf. */
export interface Strangers {
  fds: Map<string, number>;
  close(): void;
}

/** A descriptor of libuv's own whose target starts with `prefix`. */
function ownFd(prefix: string): number | undefined {
  for (const entry of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${entry}`).startsWith(prefix)) return Number(entry);
    } catch {
      // The descriptor that the listing itself used.
    }
  }
  return undefined;
}

async function listen(): Promise<Server> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

/** Opens one of each kind. */
export async function openStrangers(): Promise<Strangers> {
  const directory = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
  const fifo = join(directory, 'fifo');
  execFileSync('mkfifo', [fifo]);
  const file = join(directory, 'file');
  // What a naive parser of fdinfo could take for a dma-buf.
  writeFileSync(file, 'size:\t8192\ncount:\t1\nexp_name:\tsystem\n');
  const server = await listen();
  const opened = new Map([
    ['a regular file', openSync(file, 'r+')],
    ['a directory', openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)],
    ['a pipe', openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK)],
    ['a character device', openSync('/dev/null', 'r+')],
    ['a file of procfs', openSync('/proc/self/status', 'r')],
    ['a file in shared memory', openSync('/dev/shm', constants.O_RDWR | O_TMPFILE)],
    ['a path', openSync(file, 0o10000000)], // O_PATH
  ]);
  const lent = new Map<string, number | undefined>([
    ['a socket', (server as unknown as { _handle: { fd: number } })._handle.fd],
    ['an eventfd', ownFd('anon_inode:[eventfd]')],
    ['an epoll instance', ownFd('anon_inode:[eventpoll]')],
  ]);
  const fds = new Map(opened);
  for (const [kind, fd] of lent) if (fd !== undefined) fds.set(kind, fd);
  return {
    fds,
    close() {
      for (const fd of opened.values()) closeSync(fd);
      server.close();
      rmSync(directory, { recursive: true });
    },
  };
}
