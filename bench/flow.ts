// Bytes from one process to another, over an FdStream or a net.Socket, for `npm run bench`. As a program, it sends as many
// chunks of as many bytes as its arguments say over its descriptor 3.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { FdStream } from 'dmabuf';

type Kind = 'FdStream' | 'net.Socket';

const open: Record<Kind, (fd: number) => Duplex> = {
  FdStream: (fd) => FdStream.adopt(fd),
  'net.Socket': (fd) => new Socket({ fd }),
};

/** Nanoseconds from the first bytes to the end, for each chunk: of both processes, and of the kernel for them. */
export async function flow(kind: Kind, bytes: number, chunks: number): Promise<number> {
  const [here, there] = FdStream.pair();
  const args = [fileURLToPath(import.meta.url), kind, `${bytes}`, `${chunks}`];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit', there.fd] });
  there.destroy();
  const stream = open[kind](here.release());
  let start = 0n;
  let length = 0;
  stream.on('data', (chunk: Buffer) => {
    if (start === 0n) start = process.hrtime.bigint();
    length += chunk.length;
  });
  await once(stream, 'end');
  const duration = process.hrtime.bigint() - start;
  stream.destroy();
  await once(child, 'close');
  if (length !== bytes * chunks) throw new Error(`${length} bytes have arrived over the ${kind}`);
  return Number(duration) / chunks;
}

async function send(kind: Kind, bytes: number, chunks: number): Promise<void> {
  const stream = open[kind](3);
  const chunk = Buffer.alloc(bytes, 'x');
  for (let count = 0; count < chunks; count++) {
    if (!stream.write(chunk)) await once(stream, 'drain');
  }
  stream.end();
  stream.resume();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [kind, bytes, chunks] = process.argv.slice(2) as [Kind, string, string];
  await send(kind, Number(bytes), Number(chunks));
}
