import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import type { TestContext } from 'node:test';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { deserialize } from 'node:v8';
import { type GuestTestsOptions, testInVm } from '../../lib/vm/guest-tests.js';
import { FileReplay } from '../../lib/vm/test-replay.js';
import type { GuestEvent } from '../../lib/vm/test-reporter.js';

const wrong: [string, Partial<GuestTestsOptions>, RegExp][] = [
  ['no files', { files: [] }, /files must be an array of paths, with at least one/],
  ['files that are a text', { files: 'a.js' as never }, /files must be an array of paths/],
  [
    'a file that does not exist',
    { files: ['no-such.js'] },
    /files must be files that exist \(in \/.*\)\. Received 'no-such\.js'/,
  ],
  [
    'options of Node.js that are a text',
    { nodeOptions: '--import=x' as never },
    /nodeOptions must be an array/,
  ],
  ['a Node.js that is a number', { node: 22 as never }, /node must be the path of a Node\.js/],
  ['what runInVm refuses', { memory: 1 }, /memory must be from 128/],
];

describe('options of testInVm', () => {
  for (const [what, options, message] of wrong) {
    it(`refuse ${what}`, async (t) => {
      await assert.rejects(testInVm(t, { files: [process.execPath], ...options }), {
        code: /^ERR_(INVALID_ARG_TYPE|OUT_OF_RANGE)$/,
        message,
      });
    });
  }

  it('refuse what is not the context of a test', async () => {
    await assert.rejects(testInVm({} as never, { files: [process.execPath] }), {
      code: 'ERR_INVALID_ARG_TYPE',
      message: /first argument must be the context of a test of node:test\. Received an instance of Object/,
    });
  });

  it('end a run whose outer test is over already', async (t) => {
    const over = { test: t.test, signal: AbortSignal.abort('over') };
    await assert.rejects(testInVm(over as never, { files: [process.execPath] }), (error) => error === 'over');
  });

  it('refuse a command', async (t) => {
    await assert.rejects(testInVm(t, { files: ['a'], command: ['true'] } as never), {
      code: 'ERR_INVALID_ARG_VALUE',
    });
  });
});

/** A test's context that notes when each test in it begins and ends. */
function notingContext(notes: string[], path = ''): TestContext {
  return {
    async test(
      name: string,
      _options: unknown,
      body: (context: TestContext) => Promise<void>,
    ): Promise<void> {
      notes.push(`${path}${name} {`);
      await body(notingContext(notes, `${path}${name} > `)).catch(() => {});
      notes.push(`} ${path}${name}`);
    },
    diagnostic() {},
    skip() {},
    todo() {},
  } as never;
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** What is noted while a file's events come, with the events among them. */
async function replayed(
  events: [type: string, name: string, nesting: number, id?: number, parent?: number][],
): Promise<string[]> {
  const notes: string[] = [];
  const replay = new FileReplay(notingContext(notes), 'file', '/file.js');
  for (const [type, name, nesting, testId, parentId] of events) {
    notes.push(`${type} ${name}`);
    const event = {
      type: `test:${type}`,
      name,
      nesting,
      testId,
      parentId,
      file: '/file.js',
      line: 1,
      column: 1,
    };
    replay.handle(event as GuestEvent);
    await settled();
  }
  await replay.end(undefined, '');
  return notes;
}

describe('a replayed test', () => {
  it('lasts as long as the one in the guest, whenever that is reported', async () => {
    const notes = await replayed([
      ['dequeue', 'a', 0],
      ['complete', 'a', 0],
      ['start', 'a', 0],
      ['pass', 'a', 0],
    ]);
    assert.deepEqual(notes, [
      ...['file {', 'dequeue a', 'file > a {', 'complete a', '} file > a', 'start a', 'pass a', '} file'],
    ]);
  });

  const sideBySide = (ids: boolean): Parameters<typeof replayed>[0] => {
    const id = (own: number, parent: number): number[] => (ids ? [own, parent] : []);
    const events: [string, string, number, number?, number?][] = [];
    const add = (type: string, name: string, nesting: number, own: number, parent: number): void => {
      events.push([type, name, nesting, ...id(own, parent)] as never);
    };
    add('dequeue', 'a', 0, 1, 0);
    add('dequeue', 'b', 0, 2, 0);
    add('dequeue', 'in', 1, 3, 2);
    add('dequeue', 'in', 1, 4, 1);
    add('complete', 'in', 1, 4, 1);
    add('complete', 'in', 1, 3, 2);
    add('complete', 'b', 0, 2, 0);
    add('complete', 'a', 0, 1, 0);
    for (const [name, own] of [
      ['a', 1],
      ['b', 2],
    ] as const) {
      add('start', name, 0, own, 0);
      add('start', 'in', 1, 5 - own, own);
      add('pass', 'in', 1, 5 - own, own);
      add('pass', name, 0, own, 0);
    }
    return events;
  };
  const onlyTests = (notes: string[]): string[] => notes.filter((note) => note.includes(' > in {'));

  it('is in the right one of two side by side, once the report tells', async () => {
    const notes = await replayed(sideBySide(false));
    assert.deepEqual(onlyTests(notes), ['file > a > in {', 'file > b > in {']);
    assert.ok(notes.indexOf('file > a > in {') > notes.indexOf('start in'));
  });

  it('is in the right one of two side by side at once where the events tell', async () => {
    const notes = await replayed(sideBySide(true));
    assert.deepEqual(onlyTests(notes), ['file > b > in {', 'file > a > in {']);
    assert.ok(notes.indexOf('file > a > in {') < notes.indexOf('start a'));
  });
});

describe("the guest's reporter", () => {
  it('passes on errors with what cannot be serialised', () => {
    const reporter = fileURLToPath(new URL('../../lib/vm/test-reporter.js', import.meta.url));
    const { output } = spawnSync(
      process.execPath,
      [
        ...[`--test-reporter=${reporter}`, '--test-reporter-destination=stdout', '--input-type=module', '-e'],
        `import { test } from 'node:test';
         test('throws', () => { throw Object.assign(new TypeError('wrong', { cause: 5n }), { call() {}, code: 'E' }); });`,
      ],
      { stdio: ['ignore', 'pipe', 'pipe', 'pipe'], encoding: 'utf8', env: {} },
    );
    const events = (output[3] ?? '')
      .trim()
      .split('\n')
      .map((line) => deserialize(Buffer.from(line.replace(/^event /, ''), 'base64')) as GuestEvent);
    const failure = events.find(({ type }) => type === 'test:fail')?.failure;
    assert.equal(failure?.type, 'testCodeFailure');
    const { stack, ...rest } = (failure as { cause: unknown }).cause as { stack: string };
    assert.match(stack, /^TypeError: wrong\n {4}at /);
    assert.deepEqual(rest, {
      name: 'TypeError',
      message: 'wrong',
      properties: { call: '[Function: call]', code: 'E' },
      cause: { thrown: 5n },
      errors: undefined,
    });
  });
});
