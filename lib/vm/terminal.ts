import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Readable, Writable } from 'node:stream';
import { VmError } from './errors.js';
import type { GuestEnds, InputSource } from './input.js';

/**
 * Passes every key on, and gives the terminal its modes back when its third descriptor ends: when this process closes it,
 * or is gone, however that happened. If another program has changed the modes meanwhile, as a shell does that noticed the
 * end earlier, its modes are kept.
 */
const HOLDER = `
trap '' INT TERM HUP QUIT
saved=$("$0" stty -g) && "$0" stty raw -echo && raw=$("$0" stty -g) || exit 1
trap '' TTOU
echo taken
read -r _ <&3
[ "$("$0" stty -g)" != "$raw" ] || "$0" stty "$saved"
`;

/** Ctrl-], which telnet and virsh leave by. */
const LEAVE = 0x1d;
const LEAVE_TIMES = 3;

/**
 * The terminal of this process, taken over for as long as a command runs: every key is the command's, Ctrl-C too. Pressing
 * Ctrl-] three times ends the guest, for when it hangs.
 */
export function terminalInput(busybox: string): { input: InputSource; stdout: Writable } {
  const { stdin: keys, stdout: screen } = process;
  const modes = new ScreenModes();
  let holder: ChildProcess | undefined;
  let isOver = false;
  let stop = (): void => {};

  const take = async ({ stdin, tell, fail }: GuestEnds): Promise<void> => {
    holder = spawn(busybox, ['sh', '-c', HOLDER, busybox], { stdio: ['inherit', 'pipe', 'inherit', 'pipe'] });
    holder.stdio[3]?.on('error', () => {});
    const failed = once(holder, 'close').then(() => false);
    const taken = once(holder.stdout as Readable, 'data').then(() => true);
    const isTaken = await Promise.race([taken, failed]);
    if (isOver) return;
    if (!isTaken) {
      fail(new VmError('ERR_DMABUF_VM_INPUT', "the terminal's modes cannot be changed"));
      return;
    }
    let pressed = 0;
    const onKeys = (bytes: Buffer): void => {
      for (const byte of bytes) {
        pressed = byte === LEAVE ? pressed + 1 : 0;
        if (pressed < LEAVE_TIMES) continue;
        fail(new VmError('ERR_DMABUF_VM_ABORTED', 'Ctrl-] was pressed three times; the guest was ended'));
        return;
      }
      if (!stdin.write(bytes)) {
        keys.pause();
        stdin.once('drain', () => keys.resume());
      }
    };
    // A terminal that knows no size has none to pass on, such as a serial line.
    const onResize = (): void => {
      if (screen.rows > 0 && screen.columns > 0) tell(`size rows ${screen.rows} columns ${screen.columns}`);
    };
    const onEnd = (): void => void stdin.end();
    keys.on('data', onKeys).on('end', onEnd).on('error', onEnd);
    screen.on('resize', onResize);
    onResize();
    stop = () => {
      keys.off('data', onKeys).off('end', onEnd).off('error', onEnd).pause();
      screen.off('resize', onResize);
    };
  };

  return {
    input: {
      attach: (guest) => void take(guest),
      async detach(isComplete) {
        isOver = true;
        stop();
        // A terminal that has gone needs nothing.
        screen.on('error', () => {});
        if (!isComplete) screen.write(modes.undo());
        if (holder === undefined || holder.exitCode !== null || holder.signalCode !== null) return;
        const ended = once(holder, 'close');
        (holder.stdio[3] as Writable).end();
        await ended;
      },
    },
    stdout: new Writable({
      write(chunk: Buffer, _encoding, done) {
        modes.read(chunk);
        screen.write(chunk, done);
      },
    }),
  };
}

/** A terminal has some modes by itself; these are on when nobody has changed them: wrapping, and the cursor. */
const ON_BY_DEFAULT = new Set(['7', '25']);

const SET_MODES = new RegExp(`${'\x1b'}\\[\\?([\\d;]+)([hl])`, 'g');
const BEGUN = new RegExp(`${'\x1b'}(\\[(\\?[\\d;]{0,64})?)?$`);

/** What programs have set up on a screen by control sequences (DECSET), for when they do not get to undo it. */
export class ScreenModes {
  readonly #changed = new Set<string>();
  #begun = '';

  /** Reads what is shown, in pieces that may cut a sequence. */
  read(chunk: Buffer): void {
    if (this.#begun === '' && !chunk.includes(0x1b)) return;
    const text = this.#begun + chunk.toString('latin1');
    for (const [, numbers, action] of text.matchAll(SET_MODES)) {
      for (const mode of (numbers as string).split(';')) {
        if ((action === 'h') === ON_BY_DEFAULT.has(mode)) this.#changed.delete(mode);
        else this.#changed.add(mode);
      }
    }
    this.#begun = BEGUN.exec(text)?.[0] ?? '';
  }

  /** The sequences that undo it; colours and a keypad that sends sequences too. Empty when nothing was changed. */
  undo(): string {
    const modes = [...this.#changed].reverse();
    this.#changed.clear();
    if (modes.length === 0) return '';
    return `${modes.map((mode) => `\x1b[?${mode}${ON_BY_DEFAULT.has(mode) ? 'h' : 'l'}`).join('')}\x1b>\x1b[0m`;
  }
}
