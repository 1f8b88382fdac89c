import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import {
  allocate,
  allocateSync,
  CpuAccess,
  closeHandles,
  DmaBuf,
  DmaBufChannel,
  DmaBufMapping,
  DmaBufServer,
  DmaHeap,
  FdStream,
  FdStreamServer,
  importFrom,
  SyncFile,
  setHandleTracking,
} from 'dmabuf';
import { parseFdInfo, readFdInfo } from 'dmabuf/inspect';
import { type ArgumentRow, allocationRows, testArguments } from '../support/argument-tests.js';
import {
  type BadValue,
  badData,
  badFds,
  badFlags,
  badHandles,
  badHeapNames,
  badMessageSizes,
  badModes,
  badOptions,
  badPids,
  badSignals,
  badSocketPaths,
  badSources,
  badTexts,
  badTimeouts,
} from '../support/bad-values.js';
import { leavesNothing } from '../support/descriptors.js';
import { rejectsCode, throwsCode, unsound } from '../support/expect.js';

const nobody = `@dmabuf-unit-${process.pid}`;
const [channel, peer] = DmaBufChannel.pair();
const server = DmaBufChannel.listen(`${nobody}-server`);
after(() => {
  for (const object of [channel, peer, server]) object.close();
});

interface OptionsRow {
  /** The function's name. */
  name: string;
  /** Calls it with these options. */
  call: (options: unknown) => unknown;
  rejects: boolean;
  channel?: boolean;
  wait?: boolean;
  mode?: boolean;
}

/** A row for the options object, and one for each option. */
function* optionRows({ name, call, rejects, ...takes }: OptionsRow): Generator<ArgumentRow> {
  yield { argument: `${name}, options,`, bad: badOptions, call, rejects };
  const option = (key: string, bad: readonly BadValue[]): ArgumentRow => ({
    argument: `${name}, option ${key},`,
    bad,
    call: (value) => call({ [key]: value }),
    rejects,
  });
  if (takes.channel) yield option('maxMessageSize', badMessageSizes);
  if (takes.mode) yield option('mode', badModes);
  if (takes.wait) {
    yield option('timeout', badTimeouts);
    yield option('signal', badSignals);
  }
}

describe('arguments of channels', () => {
  testArguments(test, [
    ...optionRows({
      name: 'DmaBufChannel.pair',
      call: (options) => DmaBufChannel.pair(unsound(options)),
      rejects: false,
      channel: true,
    }),
    { argument: 'DmaBufChannel.adopt, fd,', bad: badFds, call: (fd) => DmaBufChannel.adopt(unsound(fd)) },
    ...optionRows({
      name: 'DmaBufChannel.adopt',
      call: (options) => DmaBufChannel.adopt(channel.fd, unsound(options)),
      rejects: false,
      channel: true,
    }),
    {
      argument: 'DmaBufChannel.connect, path,',
      bad: badSocketPaths,
      call: (path) => DmaBufChannel.connect(unsound(path)),
      rejects: true,
    },
    ...optionRows({
      name: 'DmaBufChannel.connect',
      call: (options) => DmaBufChannel.connect(nobody, unsound(options)),
      rejects: true,
      channel: true,
      wait: true,
    }),
    {
      argument: 'DmaBufChannel.listen, path,',
      bad: badSocketPaths,
      call: (path) => DmaBufChannel.listen(unsound(path)),
    },
    ...optionRows({
      name: 'DmaBufChannel.listen',
      call: (options) => DmaBufChannel.listen(nobody, unsound(options)),
      rejects: false,
      channel: true,
      mode: true,
    }),
    {
      argument: 'DmaBufChannel.send, data,',
      bad: badData,
      call: (data) => channel.send(unsound(data)),
      rejects: true,
    },
    {
      argument: 'DmaBufChannel.send, handles,',
      bad: badHandles,
      call: (handles) => channel.send('x', unsound(handles)),
      rejects: true,
    },
    ...optionRows({
      name: 'DmaBufChannel.send',
      call: (options) => channel.send('x', [], unsound(options)),
      rejects: true,
      wait: true,
    }),
    ...optionRows({
      name: 'DmaBufChannel.receive',
      call: (options) => channel.receive(unsound(options)),
      rejects: true,
      wait: true,
    }),
    ...optionRows({
      name: 'DmaBufServer.accept',
      call: (options) => server.accept(unsound(options)),
      rejects: true,
      wait: true,
    }),
    {
      argument: 'importFrom, pid,',
      bad: badPids,
      call: (pid) => importFrom(unsound(pid), 0),
    },
    { argument: 'importFrom, fd,', bad: badFds, call: (fd) => importFrom(process.pid, unsound(fd)) },
    {
      argument: 'setHandleTracking, enabled,',
      bad: [['undefined', undefined, 'ERR_INVALID_ARG_TYPE'], ...badFlags],
      call: (enabled) => setHandleTracking(unsound(enabled)),
    },
    {
      argument: 'closeHandles, handles,',
      bad: [
        ['undefined', undefined, 'ERR_INVALID_ARG_TYPE'],
        ...badHandles.filter(([what]) => what !== '254 numbers'),
      ],
      call: (handles) => closeHandles(unsound(handles)),
    },
  ]);

  test('no bad argument sends, receives or takes anything', async () => {
    await channel.send('the only one');
    assert.equal(Buffer.from((await peer.receive())?.data ?? []).toString(), 'the only one');
  });

  for (const className of ['DmaBuf', 'SyncFile'] as const) {
    test(`an object with the prototype of ${className} is no handle`, async () => {
      const { prototype } = { DmaBuf, SyncFile }[className];
      await rejectsCode(() => channel.send('x', [Object.create(prototype)]), 'ERR_INVALID_THIS');
      throwsCode(() => closeHandles([Object.create(prototype)]), 'ERR_INVALID_THIS');
    });
  }

  test('a path that is too long is told its length, and what to do', () => {
    const path = `/${'x'.repeat(120)}`;
    const error = throwsCode(() => DmaBufChannel.listen(path), 'ERR_OUT_OF_RANGE');
    assert.match(error.message, /at most 107 bytes \(this one has 121\).*relative/);
  });
});

describe('arguments', () => {
  testArguments(test, [
    ...allocationRows('allocate', (size, options) => allocate(unsound(size), unsound(options)), true),
    ...allocationRows(
      'allocateSync',
      (size, options) => allocateSync(unsound(size), unsound(options)),
      false,
    ),
    {
      argument: 'allocate, option from,',
      bad: badSources,
      call: (from) => allocate(4096, { from: unsound(from) }),
      rejects: true,
    },
    {
      argument: 'allocateSync, option from,',
      bad: badSources,
      call: (from) => allocateSync(4096, { from: unsound(from) }),
    },
    { argument: 'DmaHeap.open, heap,', bad: badHeapNames, call: (heap) => DmaHeap.open(unsound(heap)) },
    { argument: 'DmaBuf.import, fd,', bad: badFds, call: (fd) => DmaBuf.import(unsound(fd)) },
    { argument: 'DmaBuf.adopt, fd,', bad: badFds, call: (fd) => DmaBuf.adopt(unsound(fd)) },
    { argument: 'DmaBuf.isDmaBuf, fd,', bad: badFds, call: (fd) => DmaBuf.isDmaBuf(unsound(fd)) },
    { argument: 'readFdInfo, pid,', bad: badPids, call: (pid) => readFdInfo(unsound(pid), 0) },
    { argument: 'readFdInfo, fd,', bad: badFds, call: (fd) => readFdInfo('self', unsound(fd)) },
    { argument: 'parseFdInfo, text,', bad: badTexts, call: (text) => parseFdInfo(unsound(text)) },
  ]);

  test('the message says which argument it was, what it must be and what it got', () => {
    const error = throwsCode(() => DmaBuf.import(unsound('3')), 'ERR_INVALID_ARG_TYPE');
    assert.equal(error.message, "The fd must be a number. Received '3'");
  });

  test('a long bad value is cut short in the message', () => {
    const error = throwsCode(() => allocateSync(4096, { name: 'x'.repeat(1 << 20) }), 'ERR_OUT_OF_RANGE');
    assert.ok(error.message.length < 300, `${error.message.length} characters`);
  });
});

interface Class {
  name: string;
  prototype: object;
}
const classes: readonly Class[] = [
  DmaHeap,
  DmaBuf,
  DmaBufMapping,
  CpuAccess,
  SyncFile,
  DmaBufChannel,
  DmaBufServer,
  FdStream,
  FdStreamServer,
];

/** Methods that return promises, and so reject where others throw. */
const asynchronous = new Set<string | symbol>([
  'allocate',
  'cpuAccess',
  'withCpuAccess',
  'ready',
  'wait',
  'send',
  'receive',
  'accept',
  Symbol.asyncDispose,
]);

describe('the wrong this', () => {
  for (const { name: className, prototype } of classes) {
    const others = classes.map((other) => other.prototype);
    const receivers: readonly [string, unknown][] = [
      ['undefined', undefined],
      ['null', null],
      ['a number', 1],
      ['a string', 'fd'],
      ['an object', {}],
      ['the prototype', prototype],
      ['an object with the prototype', Object.create(prototype)],
      ...others.map((other): [string, unknown] => ['an object of another class', Object.create(other)]),
    ];
    for (const key of Reflect.ownKeys(prototype)) {
      const { get, value } = Object.getOwnPropertyDescriptor(prototype, key) as PropertyDescriptor;
      const member: unknown = get ?? value;
      if (key === 'constructor' || typeof member !== 'function') continue;
      test(`${className}.prototype.${key === Symbol.dispose ? '[Symbol.dispose]' : String(key)} refuses it`, async () => {
        for (const [what, receiver] of receivers) {
          const call = (): unknown => Reflect.apply(member, receiver, []);
          if (asynchronous.has(key)) await rejectsCode(call, 'ERR_INVALID_THIS', what);
          else throwsCode(call, 'ERR_INVALID_THIS', what);
        }
      });
    }
  }
});

describe('constructors', () => {
  for (const Refused of classes) {
    for (const args of [[], [0], ['/dev/null'], [{}], [null], [{ handle: 0, fd: 0 }, true, 0, 4096]]) {
      test(`new ${Refused.name}(${args.map((argument) => JSON.stringify(argument)).join()}) is refused`, () => {
        const construct = (): unknown => Reflect.construct(unsound(Refused), args);
        leavesNothing(() => throwsCode(construct, 'ERR_ILLEGAL_CONSTRUCTOR'));
      });
    }
  }
});
