// Objects that are lost: every kind that owns a descriptor, and every call that makes one.

import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  allocate,
  allocateSync,
  DmaBuf,
  DmaBufChannel,
  DmaBufPool,
  DmaHeap,
  FdStream,
  SyncFile,
} from 'dmabuf';
import { abstractName } from '../support/abstract-name.js';

export const size = 64 * 1024;

/** A path that nobody else has. */
export function socketPath(): string {
  return join(mkdtempSync(join(tmpdir(), 'dmabuf-leak-')), 'socket');
}

/** A buffer for `fn`, which does not lose it. */
export async function withBuffer(fn: (buffer: DmaBuf) => unknown): Promise<void> {
  const buffer = allocateSync(size);
  try {
    await fn(buffer);
  } finally {
    buffer.close();
  }
}

/** Two ends for `fn`, which does not lose them. */
export async function withPair(
  fn: (here: DmaBufChannel, there: DmaBufChannel) => Promise<void>,
): Promise<void> {
  const [here, there] = DmaBufChannel.pair();
  try {
    await fn(here, there);
  } finally {
    here.close();
    there.close();
  }
}

/** Two ends of a stream for `fn`, which does not lose them. */
async function withStreams(fn: (here: FdStream, there: FdStream) => Promise<void>): Promise<void> {
  const [here, there] = FdStream.pair();
  try {
    await fn(here, there);
  } finally {
    here.close();
    there.close();
  }
}

/** A call of the package, in this file, that makes an object which is then lost. */
export interface Leak {
  /** The call. */
  name: string;
  /** What the warning calls the object. */
  what: RegExp;
  lose(): void | Promise<void>;
}

const aBuffer = /^A DmaBuf of 65536 bytes \(inode \d+, system\)/;
const aSyncFile = /^A SyncFile was/;
const aChannel = /^A DmaBufChannel was/;
const aStream = /^An FdStream was/;

export const leaks: readonly Leak[] = [
  { name: 'allocateSync()', what: aBuffer, lose: () => void allocateSync(size) },
  {
    name: 'allocate()',
    what: aBuffer,
    lose: async () => void (await allocate(size)),
  },
  {
    name: 'DmaHeap.allocateSync()',
    what: aBuffer,
    lose() {
      const heap = DmaHeap.open('system');
      heap.allocateSync(size);
      heap.close();
    },
  },
  {
    name: 'DmaHeap.allocate()',
    what: aBuffer,
    async lose() {
      const heap = DmaHeap.open('system');
      await heap.allocate(size);
      heap.close();
    },
  },
  { name: 'DmaBuf.dup()', what: aBuffer, lose: () => withBuffer((buffer) => void buffer.dup()) },
  { name: 'DmaBuf.import()', what: aBuffer, lose: () => withBuffer(({ fd }) => void DmaBuf.import(fd)) },
  { name: 'DmaBuf.adopt()', what: aBuffer, lose: () => void DmaBuf.adopt(allocateSync(size).release()) },
  {
    name: 'DmaBufPool.acquire()',
    what: aBuffer,
    lose: async () => void (await new DmaBufPool(size).acquire()),
  },
  { name: 'DmaHeap.open()', what: /^A DmaHeap was/, lose: () => void DmaHeap.open('system') },
  {
    name: 'DmaBuf.exportSyncFile()',
    what: aSyncFile,
    lose: () => withBuffer((buffer) => void buffer.exportSyncFile('read')),
  },
  {
    name: 'SyncFile.merge()',
    what: aSyncFile,
    lose: () =>
      withBuffer((buffer) => {
        const file = buffer.exportSyncFile('read');
        SyncFile.merge('both', file, file);
        file.close();
      }),
  },
  { name: 'FdStream.pair()', what: aStream, lose: () => void FdStream.pair() },
  {
    name: 'FdStream.connect()',
    what: aStream,
    async lose() {
      const server = FdStream.listen(abstractName());
      await FdStream.connect(server.address);
      server.close();
    },
  },
  {
    name: 'FdStreamServer.accept()',
    what: aStream,
    async lose() {
      const server = FdStream.listen(abstractName());
      const accepted = server.accept();
      const client = await FdStream.connect(server.address);
      await accepted;
      client.close();
      server.close();
    },
  },
  {
    name: 'FdStream.receive()',
    what: aBuffer,
    lose: () =>
      withBuffer((buffer) =>
        withStreams(async (here, there) => {
          await here.send('a buffer', [buffer]);
          await there.receive();
        }),
      ),
  },
  {
    name: 'FdStream.takeHandle()',
    what: aBuffer,
    lose: () =>
      withBuffer((buffer) =>
        withStreams(async (here, there) => {
          await here.send('a buffer', [buffer]);
          await once(there, 'readable');
          there.takeHandle();
        }),
      ),
  },
  {
    name: 'FdStream.listen()',
    what: /^An FdStreamServer was/,
    lose: () => void FdStream.listen(abstractName()),
  },
  { name: 'DmaBufChannel.pair()', what: aChannel, lose: () => void DmaBufChannel.pair() },
  {
    name: 'DmaBufChannel.connect()',
    what: aChannel,
    async lose() {
      const server = DmaBufChannel.listen(abstractName());
      await DmaBufChannel.connect(server.path);
      server.close();
    },
  },
  {
    name: 'DmaBufServer.accept(), of a connection that is there',
    what: aChannel,
    async lose() {
      const server = DmaBufChannel.listen(abstractName());
      const client = await DmaBufChannel.connect(server.path);
      await server.accept();
      client.close();
      server.close();
    },
  },
  {
    name: 'DmaBufServer.accept(), of a connection that comes',
    what: aChannel,
    async lose() {
      const server = DmaBufChannel.listen(abstractName());
      const accepted = server.accept();
      const client = await DmaBufChannel.connect(server.path);
      await accepted;
      client.close();
      server.close();
    },
  },
  {
    name: 'DmaBufChannel.listen()',
    what: /^A DmaBufServer was/,
    lose: () => void DmaBufChannel.listen(socketPath()),
  },
  {
    name: 'DmaBufChannel.receive(), of a message that is there',
    what: aBuffer,
    lose: () =>
      withBuffer((buffer) =>
        withPair(async (here, there) => {
          await here.send('a buffer', [buffer]);
          await there.receive();
        }),
      ),
  },
  {
    name: 'DmaBufChannel.receive(), of a message that comes',
    what: aBuffer,
    lose: () =>
      withBuffer((buffer) =>
        withPair(async (here, there) => {
          const received = there.receive();
          await here.send('a buffer', [buffer]);
          await received;
        }),
      ),
  },
];
