// A worker that is given numbers of descriptors in the ways that there are. argv: what it does with them.

import { closeSync, openSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { allocateSync, closeHandles, createMemfd, DmaBufChannel, type Sendable } from 'dmabuf';

const what = process.argv[2];

async function receive(): Promise<readonly Sendable[]> {
  const [here, there] = DmaBufChannel.pair();
  const file = openSync('/etc/passwd', 'r');
  await here.send('x', [file, here.fd]);
  const { handles } = (await there.receive()) ?? { handles: [] };
  closeSync(file);
  here.close();
  there.close();
  return handles;
}

if (what === 'close') {
  closeHandles([createMemfd(4096), allocateSync(4096).release(), ...(await receive())]);
} else if (what === 'keep') {
  createMemfd(4096);
  await receive();
} else if (what === 'reuse') {
  // Its number becomes another file's, which the main thread goes on using.
  const memfd = createMemfd(4096);
  closeSync(memfd);
  parentPort?.postMessage(memfd);
  await new Promise((resolve) => parentPort?.once('message', resolve));
}
parentPort?.postMessage('done');
parentPort?.unref();
