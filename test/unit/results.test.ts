import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../support/programs.js';

const hook = fileURLToPath(new URL('../support/end-of-file.js', import.meta.url));

/** Runs test files of these texts as scripts/test.mjs does, and returns what comes at the end of all. */
async function run(
  texts: Readonly<Record<string, string>>,
): Promise<{ output: string; status: number | null }> {
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-results-'));
  try {
    const files = Object.keys(texts).map((name) => join('dist/test', name));
    mkdirSync(join(folder, 'dist/test'), { recursive: true });
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
    for (const [name, text] of Object.entries(texts)) {
      const imports = `import { describe, it, test, before } from 'node:test'; import assert from 'node:assert/strict';`;
      writeFileSync(join(folder, 'dist/test', name), `${imports}\n${text}`);
    }
    const program = `
      import { spawn } from 'node:child_process';
      import { Results } from ${JSON.stringify(join(packageRoot, 'scripts/results.mjs'))};
      const results = new Results();
      const files = ${JSON.stringify(files)};
      const listener = results.listen('on this machine', files);
      const args = ['--import=${hook}', '--test',
        '--test-reporter=${join(packageRoot, 'scripts/reporter.mjs')}', '--test-reporter-destination=stderr', ...files];
      const child = spawn(process.execPath, args, { cwd: ${JSON.stringify(folder)}, stdio: ['ignore', 'ignore', 'pipe'] });
      child.stderr.pipe(listener.stream);
      child.on('close', () => setImmediate(() => {
        listener.finish();
        process.exitCode = results.print((text) => console.log('== ' + text)) ? 0 : 1;
      }));`;
    const {
      NODE_TEST_CONTEXT: _context,
      DMABUF_TEST_FILE: _file,
      DMABUF_TEST_FILES: _files,
      ...env
    } = process.env;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      env: { ...env, DMABUF_TEST_TURNS: '40' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    const status = await new Promise<number | null>((resolve) => child.on('close', resolve));
    return { output, status };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What follows the totals. */
const endOf = (output: string): string => output.slice(output.indexOf('ℹ todo'));

test('files that pass are summed up, and nothing follows the totals', async () => {
  const { output, status } = await run({
    'a.test.js': `test('one', () => {}); test('two', { skip: 'not here' }, () => {});`,
    'b.test.js': `describe('suite', () => it('three', () => {}));`,
  });
  assert.match(output, /1 {2}not here\n/);
  assert.match(output, /ℹ tests 3\nℹ suites 1\nℹ pass 2\nℹ fail 0\nℹ cancelled 0\nℹ skipped 1\nℹ todo 0\n$/);
  assert.equal(status, 0);
});

test('a failing test comes again after the totals: its run, file, name, error and difference', async () => {
  const { output, status } = await run({
    'a.test.js': `describe('outer', () => it('inner', () => assert.deepEqual({ a: 1, b: [2] }, { a: 1, b: [3] })));`,
    'b.test.js': `test('fine', () => {});`,
  });
  const end = endOf(output);
  assert.match(end, /== failed tests\n✖ on this machine: dist\/test\/a\.test\.js: outer > inner\n/);
  assert.match(end, /^ +\+ +2$[\s\S]*^ +- +3$/m);
  assert.match(end, /at .*a\.test\.js:2/);
  assert.doesNotMatch(end, /fine|✖[\s\S]*✖/);
  assert.equal(status, 1);
});

test('a hook that fails, and a suite that throws, are failures', async () => {
  const { output, status } = await run({
    'a.test.js': `describe('outer', () => { before(() => { throw new Error('no hook'); }); it('inner', () => {}); });`,
    'b.test.js': `describe('broken', () => { throw new Error('no suite'); });`,
  });
  assert.match(endOf(output), /no hook/);
  assert.match(endOf(output), /no suite/);
  assert.equal(status, 1);
});

test('a file that dies says what it wrote on standard error', async () => {
  const { output, status } = await run({
    'a.test.js': `process.stderr.write('last words\\n', () => process.kill(process.pid, 'SIGKILL')); await new Promise(() => {});`,
  });
  assert.match(endOf(output), /✖ on this machine: dist\/test\/a\.test\.js\n[\s\S]*last words/);
  assert.match(endOf(output), /a\.test\.js did not come to its end/);
  assert.equal(status, 1);
});

test('what a file left behind is listed', async () => {
  const { output, status } = await run({
    'a.test.js': `import fs from 'node:fs'; test('it', () => void fs.openSync('/dev/zero'));`,
  });
  assert.match(endOf(output), /a\.test\.js left behind\n +descriptor \d+: \/dev\/zero/);
  assert.equal(status, 1);
});
