import type { Duplex } from 'node:stream';

interface Reply {
  QMP?: unknown;
  return?: unknown;
  error?: { desc: string };
}

/** QEMU's monitor, as the QEMU Machine Protocol speaks: lines of JSON, one answer to each command in its order. */
export class Qmp {
  readonly #stream: Duplex;
  readonly #waiting: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];
  #begun = '';
  #isClosed = false;

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on('data', (chunk: Buffer) => this.#read(chunk.toString()));
    stream.on('error', () => this.#close());
    stream.on('close', () => this.#close());
    // Nothing else is accepted before it; what it answers does not matter.
    this.execute('qmp_capabilities').catch(() => {});
  }

  /** Resolves with what QEMU returns; rejects with what it says is wrong. */
  execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) {
        reject(new Error('QEMU has ended'));
        return;
      }
      this.#waiting.push({ resolve, reject });
      this.#stream.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    });
  }

  #read(text: string): void {
    const lines = (this.#begun + text).split('\n');
    this.#begun = lines.pop() ?? '';
    for (const line of lines) {
      if (line.trim() === '') continue;
      const reply = JSON.parse(line) as Reply;
      // Neither the greeting nor an event answers anything.
      if (!('return' in reply) && reply.error === undefined) continue;
      const waiting = this.#waiting.shift();
      if (reply.error === undefined) waiting?.resolve(reply.return);
      else waiting?.reject(new Error(reply.error.desc));
    }
  }

  #close(): void {
    this.#isClosed = true;
    for (const { reject } of this.#waiting.splice(0)) reject(new Error('QEMU has ended'));
  }
}
