import assert from 'node:assert/strict';

/** A value that a function must refuse, what it is, and the code of the refusal. */
export type BadValue = readonly [what: string, value: unknown, code: string];

const type = 'ERR_INVALID_ARG_TYPE';
const range = 'ERR_OUT_OF_RANGE';

/** What messages cannot name: each is wrong for everything but a callback. */
const nameless: readonly BadValue[] = [
  [
    'a function with a symbol as its name',
    Object.defineProperty(() => {}, 'name', { value: Symbol('name') }),
    type,
  ],
  [
    'a function that keeps its name',
    new Proxy(() => {}, { get: (_, name) => assert.fail(String(name)) }),
    type,
  ],
];

const notNumbers: readonly BadValue[] = [
  ['a numeric string', '4096', type],
  ['null', null, type],
  ['a boolean', true, type],
  ['a bigint', 4096n, type],
  ['an object', {}, type],
  ['an array', [4096], type],
  ['a boxed number', Object(4096), type],
  ['a symbol', Symbol('4096'), type],
  ['a function', () => 4096, type],
  ...nameless,
];

const notIntegers: readonly BadValue[] = [
  ['NaN', Number.NaN, range],
  ['a fraction', 1.5, range],
  ['-1', -1, range],
  ['Infinity', Number.POSITIVE_INFINITY, range],
  ['-Infinity', Number.NEGATIVE_INFINITY, range],
  ['2^53', 2 ** 53, range],
  ['beyond 2^53', 2 ** 60, range],
];

const missing: BadValue = ['undefined', undefined, type];

const notStrings: readonly BadValue[] = [
  ['null', null, type],
  ['a number', 1, type],
  ['a boolean', false, type],
  ['a bigint', 1n, type],
  ['an object', {}, type],
  ['an array', ['read'], type],
  ['a boxed string', Object('read'), type],
  ['a symbol', Symbol('read'), type],
  ['a Buffer', Buffer.from('read'), type],
  ...nameless,
];

/** For a size in bytes that must be given. */
export const badSizes: readonly BadValue[] = [missing, ...notNumbers, ...notIntegers, ['0', 0, range]];

/** For an offset, a position or a length that may be left out. */
export const badOffsets: readonly BadValue[] = [...notNumbers, ...notIntegers];

/** For a file descriptor. */
export const badFds: readonly BadValue[] = [
  missing,
  ...notNumbers,
  ...notIntegers,
  ['2^31', 2 ** 31, range],
  ['2^32 + 1', 2 ** 32 + 1, range],
];

/** For a process id; `'self'` is allowed. */
export const badPids: readonly BadValue[] = [...badFds, ['0', 0, range], ['an unknown word', 'me', type]];

/** For a buffer's name that may be left out. */
export const badNames: readonly BadValue[] = [
  ...notStrings,
  ['32 bytes', 'x'.repeat(32), range],
  ['16 characters of 32 bytes', 'é'.repeat(16), range],
  ['8 emoji', '🎞'.repeat(8), range],
  ['a megabyte', 'x'.repeat(1 << 20), range],
  ['a NUL inside', 'frame\0', range],
  ['only a NUL', '\0', range],
];

/** For a buffer's name that must be given. */
export const badRequiredNames: readonly BadValue[] = [missing, ...badNames];

/** For an access that may be left out. */
export const badAccesses: readonly BadValue[] = [
  ...notStrings,
  ['an unknown word', 'readwrite', range],
  ['the empty string', '', range],
  ['other case', 'READ', range],
  ['a name that every object has', 'constructor', range],
];

/** For an access that must be given. */
export const badRequiredAccesses: readonly BadValue[] = [missing, ...badAccesses];

/** What is no options object. */
export const notOptions: readonly BadValue[] = [
  ['null', null, type],
  ['a string', 'read', type],
  ['a number', 1, type],
  ['a boolean', true, type],
  ['a bigint', 1n, type],
  ['a symbol', Symbol('read'), type],
  ['a function', () => ({}), type],
];

/** For an options object. */
export const badOptions: readonly BadValue[] = [
  ...notOptions,
  ['an option that does not exist', { nonsense: 1 }, 'ERR_INVALID_ARG_VALUE'],
  ['an option that the options inherit', Object.create({ nonsense: null }), 'ERR_INVALID_ARG_VALUE'],
];

/** For an optional boolean. */
export const badFlags: readonly BadValue[] = [
  ['null', null, type],
  ['a number', 1, type],
  ['a string', 'true', type],
  ['an object', {}, type],
];

/** For an AbortSignal. */
export const badSignals: readonly BadValue[] = [
  ['null', null, type],
  ['a number', 1, type],
  ['a string', 'abort', type],
  ['a boolean', true, type],
  ['an object', {}, type],
  ['an AbortController', new AbortController(), type],
  ['an object that looks aborted', { aborted: true }, type],
  ['an object that looks like a signal', { aborted: false }, type],
  [
    'a signal that nobody can stop to listen to',
    { aborted: false, throwIfAborted() {}, addEventListener() {} },
    type,
  ],
];

/** For the sources of an allocation. */
export const badSources: readonly BadValue[] = [
  ['null', null, type],
  ['a number', 1, type],
  ['an object', {}, type],
  ['a symbol', Symbol('system'), type],
  ['a list with a number', ['system', 1], type],
  ['a list with undefined', ['system', undefined], type],
  ['a list in a list', [['system']], type],
  ['an empty list', [], range],
  ['the empty string', '', range],
  ['a name with NUL', 'system\0', range],
];

/** For a heap's name or path. */
export const badHeapNames: readonly BadValue[] = [
  missing,
  ...notStrings,
  ['the empty string', '', range],
  ['a name with NUL', 'system\0', range],
  ['a path with NUL', '/dev/dma_heap/\0system', range],
];

/** A view whose memory has gone. */
function lost(view: ArrayBufferView): ArrayBufferView {
  structuredClone(view.buffer, { transfer: [view.buffer as ArrayBuffer] });
  return view;
}

/** A DataView that its ArrayBuffer ends before. */
function beyondEnd(): DataView {
  // The types know ArrayBuffers of a later library of JavaScript only.
  const Resizable = ArrayBuffer as unknown as new (
    length: number,
    options: { maxByteLength: number },
  ) => ArrayBuffer & { resize(length: number): void };
  const shrinking = new Resizable(16, { maxByteLength: 16 });
  const view = new DataView(shrinking, 8, 8);
  shrinking.resize(4);
  return view;
}

function lying(): DataView {
  return Object.defineProperty(new DataView(new ArrayBuffer(16)), 'byteOffset', { value: 4096 });
}

/** For memory to copy from or into. */
export const badViews: readonly BadValue[] = [
  ['a DataView of detached memory', lost(new DataView(new ArrayBuffer(16))), 'ERR_INVALID_ARG_VALUE'],
  ['a DataView beyond the end of its memory', beyondEnd(), 'ERR_INVALID_ARG_VALUE'],
  ['a DataView that lies', lying(), 'ERR_INVALID_ARG_VALUE'],
  missing,
  ['null', null, type],
  ['a number', 16, type],
  ['a string', 'bytes', type],
  ['an array', [1, 2, 3], type],
  ['an ArrayBuffer', new ArrayBuffer(16), type],
  ['a SharedArrayBuffer', new SharedArrayBuffer(16), type],
  ['an object', { length: 16 }, type],
  ['an object with the prototype of Uint8Array', Object.create(Uint8Array.prototype), type],
];

/** For a callback. */
export const badFunctions: readonly BadValue[] = [
  missing,
  ['null', null, type],
  ['an object', {}, type],
  ['a string', 'fn', type],
];

/** For the text of an fdinfo file. */
export const badTexts: readonly BadValue[] = [
  missing,
  ['null', null, type],
  ['a number', 1, type],
  ['an object', {}, type],
  ['an array', ['size:\t1'], type],
  ['an ArrayBuffer', new ArrayBuffer(16), type],
  ['a DataView', new DataView(new ArrayBuffer(16)), type],
  ['a Uint16Array', new Uint16Array(16), type],
  ['a boxed string', Object('size:\t1'), type],
  ['an object with the prototype of Uint8Array', Object.create(Uint8Array.prototype), type],
];

/** For a time in milliseconds that may be left out. */
export const badTimeouts: readonly BadValue[] = [
  ...notNumbers,
  ['NaN', Number.NaN, range],
  ['-1', -1, range],
  ['a little less than 0', -Number.MIN_VALUE, range],
  ['Infinity', Number.POSITIVE_INFINITY, range],
  ['2^31', 2 ** 31, range],
  ['a little more than 2^31 - 1', 2 ** 31 - 0.5, range],
];

/** For a socket's path or abstract name. */
export const badSocketPaths: readonly BadValue[] = [
  missing,
  ...notStrings,
  ['the empty string', '', range],
  ['only @', '@', range],
  ['only NUL', '\0', range],
  ['a path with NUL', '/tmp/a\0b', range],
  ['a path that ends with NUL', '/tmp/a\0', range],
  ['a name with a second NUL', '\0a\0', range],
  ['a name with @ and NUL', '@\0a', range],
  ['a path of 108 bytes', `/${'x'.repeat(107)}`, range],
  ['a path of 55 characters and 108 bytes', `//${'é'.repeat(53)}`, range],
  ['a name of 108 bytes', `@${'x'.repeat(108)}`, range],
  ['a megabyte', 'x'.repeat(1 << 20), range],
];

/** For the largest message in bytes that may be left out. */
export const badMessageSizes: readonly BadValue[] = [
  ...notNumbers,
  ...notIntegers,
  ['0', 0, range],
  ['2^30 + 1', 2 ** 30 + 1, range],
  ['2^31', 2 ** 31, range],
];

/** For the permissions of a file that may be left out. */
export const badModes: readonly BadValue[] = [
  ...notNumbers,
  ...notIntegers,
  ['an octal string', '660', type],
  ['0o1000', 0o1000, range],
  ['a mode as stat(2) gives it', 0o140600, range],
];

/** For what a message brings: bytes or text. */
export const badData: readonly BadValue[] = badViews.filter(([what]) => what !== 'a string');

/** For the handles of a message that may be left out. */
export const badHandles: readonly BadValue[] = [
  ['null', null, type],
  ['a number', 1, type],
  ['a string', '12', type],
  ['an object', { length: 1, 0: 1 }, type],
  ['a Set', new Set([1]), type],
  ['a typed array', Int32Array.of(1), type],
  ['an array with undefined', [undefined], type],
  ['an array with a hole', new Array(1), type],
  ['an array with null', [0, null], type],
  ['an array with a numeric string', ['0'], type],
  ['an array with a bigint', [0n], type],
  ['an array with a boolean', [true], type],
  ['an array with an object', [{ fd: 0 }], type],
  ['an array with an array', [[0]], type],
  ['an array with -1', [-1], range],
  ['an array with a fraction', [0, 0.5], range],
  ['an array with NaN', [Number.NaN], range],
  ['an array with 2^31', [2 ** 31], range],
  ['254 numbers', new Array(254).fill(0), range],
];
