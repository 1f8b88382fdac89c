import type { Readable, Writable } from 'node:stream';
import { VmError } from './errors.js';

/** The guest's ends, while a command runs. */
export interface GuestEnds {
  /** What is written there, the command reads. */
  stdin: Writable;
  /** Tells the guest's first process something. */
  tell: (line: string) => void;
  /** Ends the guest for this reason. */
  fail: (reason: VmError) => void;
}

/** Where a command's input comes from. */
export interface InputSource {
  /** Called once, when the command starts: a guest that crashes at boot is started again, and must not have read anything. */
  attach: (guest: GuestEnds) => void;
  /** Called when the guest has ended; `isComplete` when that was after its command. May be called without `attach`. */
  detach: (isComplete: boolean) => Promise<void>;
}

/** Passes a stream on, as fast as the command reads. */
export function pipedInput(from: Readable): InputSource {
  let stop = (): void => {};
  return {
    attach({ stdin, fail }) {
      const onError = (cause: NodeJS.ErrnoException): void => {
        // nohup(1) opens an input for writing only, so that nothing can be read from it.
        if (cause.code === 'EBADF') return void stdin.end();
        const message = `the command's input cannot be read: ${cause.message}`;
        fail(new VmError('ERR_DMABUF_VM_INPUT', message, { cause }));
      };
      from.on('error', onError);
      from.pipe(stdin);
      stop = () => {
        from.off('error', onError);
        from.unpipe(stdin);
        // Nobody waits for the rest of it, and so does not the process.
        from.pause();
      };
    },
    async detach() {
      stop();
    },
  };
}
