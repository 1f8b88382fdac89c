import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { allocate, allocateSync, CpuAccess, DmaBuf, DmaBufMapping, DmaHeap } from 'dmabuf';
import { parseFdInfo, readFdInfo } from 'dmabuf/inspect';
import { allocationRows, testArguments } from '../support/argument-tests.js';
import { badFds, badHeapNames, badPids, badSources, badTexts } from '../support/bad-values.js';
import { leavesNothing } from '../support/descriptors.js';
import { rejectsCode, throwsCode, unsound } from '../support/expect.js';

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
const classes: readonly Class[] = [DmaHeap, DmaBuf, DmaBufMapping, CpuAccess];

/** Methods that return promises, and so reject where others throw. */
const asynchronous = new Set<string | symbol>(['allocate', 'cpuAccess', 'withCpuAccess', 'ready']);

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
