import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const hook = fileURLToPath(new URL('../support/end-of-file.js', import.meta.url));

interface End {
  status: number | null;
  output: string;
  left: string[];
}

/** Runs a test file of this text as scripts/test.mjs does. */
function run(text: string, more: Readonly<Record<string, string>> = {}): End {
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-end-of-file-'));
  try {
    const file = join(folder, 'a.test.js');
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
    writeFileSync(file, `import { after, test } from 'node:test';\nimport fs from 'node:fs';\n${text}`);
    const reports = join(folder, 'reports');
    mkdirSync(reports);
    // Not what tells a child of node:test that it is one, nor what the hook of this very file has set.
    const { NODE_TEST_CONTEXT: _context, DMABUF_TEST_FILE: _file, ...environment } = process.env;
    const args = [`--import=${hook}`, '--test', '--test-reporter=spec', file];
    const env = { ...environment, DMABUF_TEST_FILES: reports, DMABUF_TEST_TURNS: '40', ...more };
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { env, encoding: 'utf8' });
    const [report] = readdirSync(reports).map((name) => readFileSync(join(reports, name), 'utf8'));
    return { status, output: stdout + stderr, left: report === undefined ? [] : JSON.parse(report).left };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('a file that leaves nothing passes, processes, workers, signals and sockets included', () => {
  const { status, output, left } = run(`
    import { spawnSync } from 'node:child_process';
    import { once } from 'node:events';
    import { createServer } from 'node:net';
    import { Worker } from 'node:worker_threads';
    test('it', async () => {
      spawnSync('true');
      process.once('SIGUSR2', () => {}).kill(process.pid, 'SIGUSR2');
      await once(new Worker('', { eval: true }), 'exit');
      const server = createServer().listen(0);
      await once(server, 'listening');
      server.close();
      await fs.promises.readFile('/proc/self/stat');
    });`);
  assert.deepEqual([status, left], [0, []], output);
});

test('a descriptor that is left fails the file though its tests pass', () => {
  const { status, output, left } = run(`test('it', () => void fs.openSync('/dev/zero'));`);
  assert.equal(status, 1, output);
  assert.equal(left.length, 1);
  assert.match(left[0] ?? '', /^descriptor \d+: \/dev\/zero, there since the test “it”$/);
  assert.match(output, /✔ it/);
  assert.match(output, /✖ .*a\.test\.js/);
  assert.match(output, /left behind .*\n.*\/dev\/zero/);
});

test('what is left is told with the test that left it', () => {
  const { status, left } = run(`
    import { describe, it } from 'node:test';
    const whole = fs.openSync('/dev/zero');
    after(() => fs.closeSync(whole));
    let later;
    test('first', () => { later = fs.openSync('/dev/full'); });
    describe('a suite', () => {
      it('second', () => void fs.openSync('/dev/null'));
    });
    test('third', () => fs.closeSync(later));`);
  assert.equal(status, 1);
  assert.equal(left.length, 1, left.join('\n'));
  assert.match(left[0] ?? '', /^descriptor \d+: \/dev\/null, there since the test “second”$/);
});

test('what the last hook closes is not left', () => {
  const { status, output } = run(`
    const fd = fs.openSync('/dev/zero');
    after(() => fs.closeSync(fd));
    test('it', () => {});`);
  assert.equal(status, 0, output);
});

test('what is collected, and closed then, is not left', () => {
  const { status, output } = run(`
    const registry = new FinalizationRegistry((fd) => fs.closeSync(fd));
    test('it', () => registry.register({}, fs.openSync('/dev/zero')));`);
  assert.equal(status, 0, output);
});

test('a number that stands for another file at the end fails the file', () => {
  const { status, left } = run(`
    test('it', () => {
      fs.closeSync(0);
      fs.openSync('/dev/zero');
    });`);
  assert.equal(status, 1);
  assert.match(left[0] ?? '', /^descriptor 0: \/dev\/zero, there since the test “it”$/);
});

test('a thread that still runs fails the file', () => {
  const { status, left } = run(`
    import { Worker } from 'node:worker_threads';
    test('it', async () => {
      const worker = new Worker('require("node:worker_threads").parentPort.on("message", () => {})', { eval: true });
      await new Promise((resolve) => worker.once('online', resolve));
      worker.unref();
    });`);
  assert.equal(status, 1);
  assert.ok(
    left.some((one) => /^thread \d+: /.test(one)),
    left.join('\n'),
  );
});

test('a file that is killed does not report its end', () => {
  const { status, left } = run(`test('it', () => process.kill(process.pid, 'SIGKILL'));`);
  assert.equal(status, 1);
  assert.deepEqual(left, []);
});

test('the thread that waits, and what it waits with, may stay', () => {
  const waiting = `
    import { DmaBufChannel } from ${JSON.stringify(import.meta.resolve('dmabuf'))};
    test('it', async () => {
      const [here, there] = DmaBufChannel.pair();
      const message = there.receive();
      await here.send('x');
      await message;
      here.close();
      there.close();
    });`;
  const { status, output } = run(waiting, { DMABUF_TEST_WAITING: 'thread' });
  assert.equal(status, 0, output);
});
