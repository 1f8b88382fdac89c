import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { report } from '../programs.js';

/**
 * Ends workers while a system call of theirs fails, and reports how many there were. If an exception reports such a
 * failure to a worker that may no longer run JavaScript, Node.js ends the process with SIGABRT.
 */
const asking = `
const { parentPort, workerData } = require('node:worker_threads');
import('dmabuf').then(({ allocateSync, DmaHeap }) => {
  parentPort.postMessage('asks');
  for (;;) {
    for (const call of [() => DmaHeap.open(workerData), () => allocateSync(4096, { from: [workerData] }), () => DmaHeap.list()]) {
      try {
        call();
      } catch {}
    }
  }
});`;

const folder = mkdtempSync(join(tmpdir(), 'dmabuf-slow-path-'));

/** A path that the kernel follows for a while, until it finds that nothing is there. */
function slowPath(): string {
  const links = 39; // of the 40 that a path may have
  for (let link = 0; link < links; link++) {
    symlinkSync(`${'./'.repeat(2000)}${link + 1}`, join(folder, String(link)));
  }
  return join(folder, '0');
}

async function endOne(path: string): Promise<void> {
  const worker = new Worker(asking, { eval: true, workerData: path });
  const end = new Promise((resolve) => worker.once('exit', resolve));
  worker.on('error', (error) => {
    throw error;
  });
  await new Promise((resolve) => worker.once('message', resolve));
  for (let turns = Math.random() * 20; turns > 0; turns--) await new Promise(setImmediate);
  await worker.terminate();
  await end;
}

const workers = 16;
try {
  const path = slowPath();
  for (let ended = 0; ended < workers; ended++) await endOne(path);
} finally {
  rmSync(folder, { recursive: true });
}
report(workers);
