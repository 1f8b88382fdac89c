// Where lost objects were made. Node is to be silent: the scenarios look at the warnings.

import assert from 'node:assert/strict';
import { closeSync, fstatSync } from 'node:fs';
import {
  allocateSync,
  type DmaBuf,
  DmaBufChannel,
  DmaHeap,
  FdStream,
  openHandles,
  setHandleTracking,
} from 'dmabuf';
import { replaceByStranger } from '../support/descriptors.js';
import { collectUntil, turn, turns } from '../support/event-loop.js';
import { type Leak, leaks, size, withBuffer } from './leaks.js';
import type { Scenario } from './scenario.js';

setHandleTracking(true);

interface Warning extends Error {
  code?: string;
}

const warnings: Warning[] = [];
process.on('warning', (warning: Warning) => warnings.push(warning));

/** Loses something, and returns the warnings about it. */
async function warningsOf(lose: () => unknown): Promise<Warning[]> {
  warnings.length = 0;
  const before = openHandles().length;
  await lose();
  await collectUntil(() => openHandles().length <= before, 'what was lost is closed');
  await turn();
  return warnings.splice(0);
}

/** Asserts that there is one warning, and that it names the object and the call in a file of these tests. */
function assertWarning(all: readonly Warning[], what: RegExp, file: string): void {
  assert.deepEqual(
    all.map(({ name, code }) => [name, code]),
    [['DmaBufWarning', 'DMABUF_NOT_CLOSED']],
    all.map(({ message }) => message).join('\n'),
  );
  const [{ message }] = all as [Warning];
  assert.match(message, what);
  assert.match(message, /garbage-collected without close\(\).*\. It was made here:\n/);
  const [, frame] = message.split('\n') as [string, string];
  assert.match(frame, new RegExp(`^    at .*/test/lifecycle/${file}\\.js:\\d+:\\d+\\)?$`));
}

function scenarioOf({ name, what, lose }: Leak): Scenario {
  return {
    name: `what ${name} made and nobody closed is closed, and the warning says where that was`,
    run: async () => assertWarning(await warningsOf(lose), what, 'leaks'),
  };
}

/** Two places. */
const places: readonly (() => void)[] = [
  () => void DmaHeap.open('system'), //
  () => void DmaHeap.open('system'),
];

export const scenarios: readonly Scenario[] = [
  ...leaks.map(scenarioOf),
  {
    name: 'openHandles() says where an open object was made',
    async run() {
      await withBuffer(() => {
        const [buffer] = openHandles();
        assert.match(String(buffer?.madeAt), /^ {4}at withBuffer .*\/leaks\.js:/);
      });
    },
  },
  {
    name: 'each place is named once, however often it loses something',
    async run() {
      // Not called from here: every caller would be another place.
      const loseAll = (): Promise<void> =>
        new Promise((resolve) => {
          setImmediate(() => {
            for (let round = 0; round < 50; round++) for (const lose of places) lose();
            resolve();
          });
        });
      const all = await warningsOf(loseAll);
      assert.equal(all.length, 2);
      assert.notEqual(all[0]?.message, all[1]?.message);
      assert.deepEqual(await warningsOf(loseAll), []);
    },
  },
  {
    name: 'a lost object whose descriptor was closed by somebody else is forgotten, with its warning',
    async run() {
      let fd = -1;
      const all = await warningsOf(() => {
        fd = allocateSync(size).fd;
        closeSync(fd);
      });
      assertWarning(all, /^A DmaBuf/, 'tracked-leaks.scenarios');
    },
  },
  {
    name: 'a lost object whose descriptor’s number became a stranger’s leaves the stranger alone',
    async run() {
      const strangers: number[] = [];
      for (const make of [
        () => allocateSync(size),
        () => DmaHeap.open('system'),
        () => DmaBufChannel.listen(`@dmabuf-stranger-${process.pid}`),
        () => DmaBufChannel.adopt(DmaBufChannel.pair()[0].release()),
        () => FdStream.adopt(FdStream.pair()[0].release()),
      ]) {
        await warningsOf(() => {
          const { fd } = make();
          replaceByStranger(fd);
          strangers.push(fd);
        });
      }
      for (const fd of strangers) {
        assert.ok(fstatSync(fd).isCharacterDevice());
        closeSync(fd);
      }
    },
  },
  {
    name: 'openHandles() shows -1 for a descriptor that was closed by somebody else',
    run() {
      const buffer = allocateSync(size);
      const [here, there] = DmaBufChannel.pair();
      closeSync(buffer.fd);
      closeSync(here.fd);
      const open = openHandles().map(({ type, fd, inode }) => `${type} ${fd} ${inode}`);
      const expected = [`DmaBuf -1 ${buffer.inode}`, 'DmaBufChannel -1 undefined'];
      assert.deepEqual(open.sort(), [...expected, `DmaBufChannel ${there.fd} undefined`].sort());
      for (const object of [buffer, here, there]) object.close();
    },
  },
  {
    name: 'a listener of the warning may list what is open, close it and make more',
    async run() {
      const made: DmaBuf[] = [];
      const listed: number[] = [];
      const listener = (): void => {
        listed.push(openHandles().length);
        made.push(allocateSync(size));
      };
      process.on('warning', listener);
      try {
        (() => void allocateSync(size))();
        await collectUntil(() => made.length > 0, 'the listener is called');
      } finally {
        process.off('warning', listener);
      }
      assert.deepEqual(listed, [0]);
      assert.deepEqual(
        openHandles().map(({ inode }) => inode),
        made.map(({ inode }) => inode),
      );
      for (const buffer of made) buffer.close();
    },
  },
  {
    name: 'an error of a listener of the warning is the listener’s, not the finalizer’s',
    async run() {
      const errors: unknown[] = [];
      const listener = (): void => {
        throw new Error('as expected');
      };
      process.once('warning', listener);
      process.once('uncaughtException', (error) => errors.push(error));
      (() => {
        for (let index = 0; index < 10; index++) allocateSync(size);
      })();
      await collectUntil(() => openHandles().length === 0, 'all are closed all the same');
      await turns();
      assert.deepEqual(
        errors.map((error) => (error as Error).message),
        ['as expected'],
      );
    },
  },
  {
    name: 'without tracking, the warning says how to learn the place',
    async run() {
      const buffer = allocateSync(size);
      setHandleTracking(false);
      assert.equal(openHandles()[0]?.madeAt, undefined);
      buffer.close();
      const [warning, ...others] = await warningsOf(() => void allocateSync(size));
      assert.deepEqual(others, []);
      assert.match(String(warning?.message), /NODE_DEBUG=dmabuf or setHandleTracking\(true\) shows where/);
    },
  },
];
