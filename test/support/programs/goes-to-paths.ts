// Connects to and listens at the paths that it is told, a command on each line of its standard input, and answers each with
// a line: what came of it, or the code of its error.

import { createInterface } from 'node:readline';
import { Worker } from 'node:worker_threads';
import { DmaBufChannel, type DmaBufServer } from 'dmabuf';

const codeOf = (error: unknown): string | undefined => (error as { code?: string }).code;
const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** `ok`, or the code and the name of what it fails with. */
async function outcomeOf(attempt: Promise<unknown>): Promise<string> {
  try {
    await attempt;
    return 'ok';
  } catch (error) {
    return codeOf(error) ?? String(error);
  }
}

let server: DmaBufServer | undefined;
const pending: Promise<string>[] = [];

const commands: Record<string, (...words: string[]) => unknown> = {
  async connect(path, timeout) {
    const channel = await DmaBufChannel.connect(path as string, { timeout: Number(timeout) });
    channel.close();
    return 'ok';
  },
  async 'connect-until-abort'(path) {
    const controller = new AbortController();
    const connecting = DmaBufChannel.connect(path as string, { signal: controller.signal });
    setImmediate(() => controller.abort(new Error('aborted')));
    return await outcomeOf(connecting);
  },
  /** Goes on connecting to so many paths, so often. */
  'go-on-connecting'(path, paths, times) {
    for (let index = 0; index < Number(paths); index++) {
      for (let time = 0; time < Number(times); time++) {
        const connecting = DmaBufChannel.connect(`${path}${index}`);
        pending.push(outcomeOf(connecting.then((channel) => channel.close())));
      }
    }
    return 'ok';
  },
  /** What came of these. */
  async outcomes() {
    return [...new Set(await Promise.all(pending))].join(' ');
  },
  listen(path) {
    server = DmaBufChannel.listen(path as string);
    return 'ok';
  },
  async accept() {
    const channel = await server?.accept();
    const pid = channel?.peer.pid;
    channel?.close();
    return pid === process.pid ? 'itself' : pid;
  },
  close() {
    server?.close();
    return 'ok';
  },
  async 'end-worker'(path) {
    const code = `
      const { workerData, parentPort } = require('node:worker_threads');
      const { DmaBufChannel } = require('dmabuf');
      DmaBufChannel.connect(workerData).catch(() => {});
      setImmediate(() => parentPort.postMessage('connecting'));
    `;
    const worker = new Worker(code, { eval: true, workerData: path });
    await new Promise((resolve) => worker.once('message', resolve));
    return await worker.terminate();
  },
  exit: () => process.exit(7),
};

for await (const line of createInterface({ input: process.stdin })) {
  const [command = '', ...words] = line.split(' ');
  try {
    say(String(await commands[command]?.(...words)));
  } catch (error) {
    say(`${codeOf(error)} ${(error as { hint?: string }).hint ?? ''}`.trim());
  }
}
