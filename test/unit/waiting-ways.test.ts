// Waiting by the event loop and by a thread, for runtimes whose event loop cannot be asked. Channels are enough to wait for.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { packageRoot } from '../support/programs.js';

const ways = { 'the event loop': '', 'a thread': 'thread' };

const programs = {
  'a message that comes later is received': `
    const [a, b] = DmaBufChannel.pair();
    setTimeout(() => a.send('x'), 20);
    console.log((await b.receive()).data.length);
    a.close(); b.close();`,
  'a wait that has ended does not keep the process alive': `
    const [a, b] = DmaBufChannel.pair();
    await b.receive({ timeout: 5 }).catch((error) => console.log(error.code === 'ETIMEDOUT' ? 1 : 0));`,
  'hundreds of waits settle in the order of their messages': `
    const pairs = Array.from({ length: 300 }, () => DmaBufChannel.pair());
    const order = [];
    const all = pairs.map(async ([, b], index) => { await b.receive(); order.push(index); });
    await new Promise((resolve) => setImmediate(resolve));
    for (const [a] of pairs) await a.send('x');
    await Promise.all(all);
    console.log(order.every((value, index) => value === index) ? 1 : 0);`,
  'rounds of waiting, one after the other': `
    const [a, b] = DmaBufChannel.pair();
    let rounds = 0;
    for (; rounds < 200; rounds++) {
      const message = b.receive();
      await new Promise((resolve) => setImmediate(resolve));
      await a.send('x');
      await message;
    }
    console.log(rounds === 200 ? 1 : 0);`,
  'streams are read, and written when there is room': `
    const [a, b] = FdStream.pair();
    let length = 0;
    b.on('data', (chunk) => { length += chunk.length; }).on('end', () => { console.log(length === 1_000_007 ? 1 : length); b.end(); });
    setTimeout(() => { a.send('x', [0]); a.write(Buffer.alloc(1_000_000)); a.end('end 42'); a.resume(); }, 20);`,
  'a worker that is terminated while it waits leaves nothing behind': `
    const { Worker } = await import('node:worker_threads');
    const { readdirSync, readFileSync } = await import('node:fs');
    const script = "import { parentPort, workerData } from 'node:worker_threads'; const { DmaBufChannel } = await import(workerData); const [a, b] = DmaBufChannel.pair(); b.receive(); setTimeout(() => parentPort.postMessage(a.fd), 5);";
    const run = async () => {
      const worker = new Worker(script, { eval: true, workerData: import.meta.resolve('dmabuf') });
      await new Promise((resolve) => worker.once('message', resolve));
      await worker.terminate();
    };
    await run();
    const nameOf = (thread) => { try { return readFileSync('/proc/self/task/' + thread + '/comm', 'utf8'); } catch { return ''; } };
    const threads = () => readdirSync('/proc/self/task').map(nameOf);
    const count = () => {
      while (threads().includes('dmabuf-close\\n')) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
      return readdirSync('/proc/self/fd').length + readdirSync('/proc/self/task').length;
    };
    const before = count();
    for (let round = 0; round < 5; round++) await run();
    console.log(count() === before ? 1 : count() - before);`,
};

for (const [way, waiting] of Object.entries(ways)) {
  describe(`waiting by ${way}`, () => {
    for (const [name, program] of Object.entries(programs)) {
      it(name, () => {
        const code = `import { DmaBufChannel, FdStream } from 'dmabuf';${program}`;
        const { status, signal, stdout, stderr } = spawnSync(
          process.execPath,
          ['--input-type=module', '-e', code],
          {
            cwd: packageRoot,
            encoding: 'utf8',
            timeout: 120_000,
            env: { ...process.env, DMABUF_TEST_WAITING: waiting },
          },
        );
        assert.deepEqual([signal ?? status, stdout.trim()], [0, '1'], stderr);
      });
    }
  });
}
