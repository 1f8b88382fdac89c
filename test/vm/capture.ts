import { Writable } from 'node:stream';
import { runInVm, type VmOptions, type VmResult } from '../../lib/vm/index.js';

/** A run's result together with everything the command wrote. */
export interface Captured extends VmResult {
  stdout: Buffer;
  stderr: string;
}

/** Runs a command in a guest and collects its output. */
export async function capture(options: VmOptions): Promise<Captured> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const result = await runInVm({ ...options, stdout: collect(stdout), stderr: collect(stderr) });
  return { ...result, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() };
}

function collect(chunks: Buffer[]): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk);
      done();
    },
  });
}
