// The stages of stages.ts that concern streams.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { allocateSync, FdStream } from 'dmabuf';
import { abstractName } from '../support/abstract-name.js';
import { turns, watch } from '../support/event-loop.js';
import { keep, newBuffer, pendingFor, size } from './kept.js';
import type { Reachable } from './stage.js';

/** Nothing is pending that could keep a process alive. */
export const idleStreams: readonly Reachable[] = [
  {
    name: 'a stream has descriptors that were not taken',
    withoutDescriptors: 'EMFILE',
    async enter() {
      const [here, there] = keep(FdStream.pair());
      const buffer = newBuffer();
      await here.send('buffers', [buffer, buffer, buffer]);
      await once(there, 'readable');
      keep(there.takeHandle());
      return { inodes: [buffer.inode], again: () => FdStream.pair() };
    },
  },
  {
    name: 'bytes with buffers wait to be received',
    withoutDescriptors: 'EMFILE',
    async enter() {
      const [here, there] = keep(FdStream.pair());
      const inodes: number[] = [];
      for (let index = 0; index < 10; index++) {
        const buffer = allocateSync(size);
        inodes.push(buffer.inode);
        await here.send('a buffer', [buffer, buffer]);
        buffer.close();
      }
      here.close();
      return { inodes, again: () => there.receive() };
    },
  },
  {
    name: 'a server of streams listens, and connections wait for accept()',
    withoutDescriptors: 'EMFILE',
    async enter() {
      const server = keep(FdStream.listen(abstractName()));
      const inodes: number[] = [];
      for (let index = 0; index < 3; index++) {
        const buffer = allocateSync(size);
        inodes.push(buffer.inode);
        await keep(await FdStream.connect(server.address)).send('a buffer', [buffer]);
        buffer.close();
      }
      return { inodes, again: () => server.accept() };
    },
  },
];

/** Waits for a peer. */
export const waitingStreams: readonly Reachable[] = [
  {
    name: 'FdStream.receive() waits for bytes',
    async enter() {
      const [here, there] = keep(FdStream.pair());
      const { signal } = new AbortController();
      const calls = [there.receive(), there.receive({ timeout: 1_000_000 }), there.receive({ signal })];
      const pending = await pendingFor(calls);
      return {
        inodes: [newBuffer().inode],
        pending,
        finish: () => here.close(),
        async again() {
          await here.send('bytes');
          return pending[0];
        },
      };
    },
  },
  {
    name: 'a stream is read as a Duplex, and what it has brought is kept',
    async enter() {
      const [here, there] = keep(FdStream.pair());
      const buffer = newBuffer();
      let chunks = 0;
      const loop = (async () => {
        for await (const chunk of there) {
          keep([chunk, there.takeHandle()]);
          chunks++;
        }
      })();
      await here.send('buffers', [buffer, buffer]);
      await pendingFor([loop]);
      assert.equal(chunks, 1);
      return {
        inodes: [buffer.inode],
        pending: [loop],
        finish: () => here.close(),
        async again() {
          await here.send('bytes');
          while (chunks === 1) await turns(1);
        },
      };
    },
  },
  {
    name: 'FdStream.send() and write() wait, since the peer does not read',
    withoutDescriptors: 'EMFILE',
    async enter() {
      const [here, there] = keep(FdStream.pair());
      here.on('error', () => {}); // The peer closes its end.
      const data = new Uint8Array(200_000);
      const inodes: number[] = [];
      const send = (): Promise<void> => {
        const buffer = allocateSync(size);
        inodes.push(buffer.inode);
        const sent = here.send(data, [buffer]);
        buffer.close(); // the call has its own copy
        return sent;
      };
      const calls = Array.from({ length: 4 }, send);
      const written = new Promise<void>((resolve) => void here.write(data, () => resolve()));
      calls.push(written, send());
      const watched = calls.map(watch);
      await turns();
      const pending = calls.filter((_, index) => watched[index]?.state === 'pending');
      assert.ok(pending.length >= 4);
      return {
        inodes,
        pending,
        finish: () => there.close(),
        again: () => here.send(data, [0]),
      };
    },
  },
  {
    name: 'FdStreamServer.accept() waits for a connection',
    async enter() {
      const server = keep(FdStream.listen(abstractName()));
      const pending = await pendingFor([server.accept(), server.accept({ timeout: 1_000_000 })]);
      return {
        inodes: [newBuffer().inode],
        pending,
        finish: () => server.close(),
        async again(free) {
          free();
          keep(await FdStream.connect(server.address));
          return pending[0];
        },
      };
    },
  },
  {
    name: 'FdStream.connect() waits for a server that is not there',
    async enter() {
      const name = abstractName();
      const controller = new AbortController();
      const { signal } = controller;
      const pending = await pendingFor([FdStream.connect(name, { retry: true, signal })]);
      return {
        inodes: [newBuffer().inode],
        pending,
        finish: () => controller.abort(),
        async again(free) {
          free();
          return await FdStream.connect(name).catch(({ code }) => assert.equal(code, 'ECONNREFUSED'));
        },
      };
    },
  },
];
