import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type KernelsOptions, runOnKernels } from '../../lib/vm/kernel-runs.js';
import { prefixedLines } from '../../lib/vm/prefixed.js';
import { packageRoot } from '../support/programs.js';

const wrong: [string, Partial<KernelsOptions>, RegExp][] = [
  ['no kernels', { kernels: undefined as never }, /^The option kernels must be an array/],
  ['a kernel that is no array', { kernels: 'stable' as never }, /kernels must be an array/],
  ['an empty array', { kernels: [] }, /kernels must be .* at least one/],
  ['an empty name', { kernels: ['stable', ''] }, /kernels must be .* none of them empty/],
  ['a number for a name', { kernels: [6.12 as never] }, /kernels must be an array of names/],
  [
    'the same kernel twice',
    { kernels: ['stable', 'stable'] },
    /kernels must be such that each is named once\. Received 'stable'/,
  ],
  ['no jobs', { jobs: 0 }, /jobs must be from 1 to/],
  ['jobs that are null', { jobs: null as never }, /jobs must be a number/],
  ['jobs that are a text', { jobs: '2' as never }, /jobs must be a number/],
  ['what runInVm refuses', { cpus: 0 }, /cpus must be from 1 to/],
];

describe('options of runOnKernels', () => {
  for (const [what, options, message] of wrong) {
    it(`refuse ${what}`, async () => {
      await assert.rejects(runOnKernels({ command: ['true'], kernels: ['stable'], ...options }), {
        code: /^ERR_(INVALID_ARG_TYPE|OUT_OF_RANGE)$/,
        message,
      });
    });
  }

  it('refuse what belongs to one kernel', async () => {
    await assert.rejects(
      runOnKernels({ command: ['true'], kernels: ['stable'], kernel: 'stable' } as never),
      {
        code: 'ERR_INVALID_ARG_VALUE',
        message: /no option 'kernel' here.* Did you mean 'kernels'\?/,
      },
    );
  });

  it('reject with the reason of an abort that came first', async () => {
    const reason = { why: 'no longer needed' };
    await assert.rejects(
      runOnKernels({ command: ['true'], kernels: ['/a', '/b'], signal: AbortSignal.abort(reason) }),
      (error) => error === reason,
    );
  });
});

describe('kernels that cannot be had', () => {
  it('are errors in their own rows', async () => {
    const said: string[] = [];
    const runs = await runOnKernels({
      command: ['true'],
      kernels: ['/nowhere/a', '/nowhere/b'],
      jobs: 1,
      progress: (message) => said.push(message),
    });
    assert.deepEqual(
      runs.map(({ kernel, release, exitCode, error }) => [kernel, release, exitCode, error?.code]),
      ['/nowhere/a', '/nowhere/b'].map((name) => [name, undefined, undefined, 'ERR_DMABUF_VM_KERNEL']),
    );
    assert.match(
      said[0] ?? '',
      /^\/nowhere\/a: ERR_DMABUF_VM_KERNEL: the kernel \/nowhere\/a does not exist/,
    );
  });

  it('are rows of the table, and end the command with 125', () => {
    const { status, stdout, stderr } = dmabufVm('--kernel', '/nowhere/a,/nowhere/b', '--', 'true');
    assert.equal(status, 125, stderr);
    assert.equal(stdout, '');
    assert.match(
      stderr,
      /\nKERNEL +RELEASE +STATUS +SECONDS +RESULT\n\/nowhere\/a +- +125 +\d+\.\d +ERR_DMABUF_VM_KERNEL\n/,
    );
    assert.match(stderr, /\n\/nowhere\/b +- +125 /);
  });
});

describe('dmabuf vm', () => {
  for (const [what, args, message] of [
    ['a kernel without a name', ['--kernel', 'stable,'], /--kernel names a kernel without a name: 'stable,'/],
    ['a kernel twice', ['--kernel', '6.12,6.12'], /each is named once\. Received '6.12'/],
    [
      'no jobs',
      ['--kernel', 'a,b', '--jobs', '0'],
      /'--jobs <n>' argument '0' is invalid\. It must be a whole number/,
    ],
    ['modules of several kernels', ['--kernel', 'a,b', '--modules-dir', '/m'], /--modules-dir .* one kernel/],
  ] as const) {
    it(`refuses ${what} with 125`, () => {
      const { status, stderr } = dmabufVm(...args, '--', 'true');
      assert.match(stderr, message);
      assert.equal(status, 125);
    });
  }

  it('takes the kernels of the environment, one that is there with a comma in its name too', () => {
    const env = { ...process.env, DMABUF_VM_KERNEL: '/nowhere/a,/nowhere/b' };
    assert.match(dmabufVm('--', 'true', { env }).stderr, /\n\/nowhere\/b +- +125 /);
  });
});

function dmabufVm(
  ...args: (string | { env: NodeJS.ProcessEnv })[]
): ReturnType<typeof spawnSync> & { stderr: string } {
  const words = args.filter((word) => typeof word === 'string');
  const options = args.find((word) => typeof word === 'object') ?? {};
  const main = join(packageRoot, 'dist/package/cli.js');
  return spawnSync(process.execPath, [main, 'vm', ...words], { ...options, encoding: 'utf8' });
}

describe('prefixedLines', () => {
  it('passes whole lines on behind the prefix, wherever the text is cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: fc.constantFrom('a', 'é', '\n') }), fc.nat(), async (said, seed) => {
        const to = new PassThrough();
        const written = text(to);
        const lines = prefixedLines(to, 'k | ');
        const bytes = Buffer.from(said);
        for (let start = 0; start < bytes.length; start += 1 + (seed % 5)) {
          lines.write(bytes.subarray(start, start + 1 + (seed % 5)));
        }
        lines.end(() => to.end());
        const expected = said.replace(/\n$/, '');
        assert.equal(await written, said === '' ? '' : `${expected.replace(/^/gm, 'k | ')}\n`);
      }),
    );
  });

  it('never writes a part of a line', async () => {
    const writes: string[] = [];
    const to = new Writable({
      write(chunk: Buffer, _encoding, done) {
        writes.push(chunk.toString());
        done();
      },
    });
    const lines = prefixedLines(to, '> ');
    for (const part of ['be', 'gun\nand', ' so', ' on\n', 'rest']) lines.write(part);
    await new Promise<void>((resolve) => lines.end(resolve));
    assert.deepEqual(writes, ['> begun\n', '> and so on\n', '> rest\n']);
  });

  it('cuts a line that has no end', async () => {
    const to = new PassThrough({ highWaterMark: 8 * 1024 * 1024 });
    const lines = prefixedLines(to, '');
    const piece = Buffer.alloc(700 * 1024, 'x');
    for (let count = 0; count < 3; count++) lines.write(piece);
    await new Promise<void>((resolve) => lines.end(resolve));
    to.end();
    const lengths = (await text(to)).split('\n').map((line) => line.length);
    assert.deepEqual(lengths, [1024 * 1024, 1024 * 1024, 3 * 700 * 1024 - 2 * 1024 * 1024, 0]);
  });

  it('fails when its target does', async () => {
    const to = new Writable({ write: (_chunk, _encoding, done) => done(new Error('full')) });
    to.on('error', () => {});
    const lines = prefixedLines(to, '> ');
    lines.write('line\n');
    const error = await new Promise<Error>((resolve) => lines.on('error', resolve));
    assert.equal(error.message, 'full');
  });
});
