import { constants } from 'node:os';
import { type Command, Option } from 'commander';
import type { Snapshot } from '../inspect/model.js';
import type { SnapshotOptions } from '../inspect/options.js';
import { watch } from '../inspect/watch.js';
import { endBySignal } from './ending.js';
import { seconds, subcommand, whole, withFormat, withSource } from './options.js';
import { bold, type Format, noteUnseen, outputWidth, print } from './output.js';
import { toJson } from './text.js';
import type { TopState, View } from './top-screen.js';

const HELP = `
Keys: q quit; b p e buffers, processes, exporters; s < > sort by another column; r reverse the order; arrows, j k
scroll; space pause; + - refresh more often, less often; h help.
For scripts, --iterations N and --once print plain text, or with --json each snapshot as one line.
GROWTH is how much more, or less, a process holds than at the start: bytes, or descriptors and mappings alone.
Exit status: 0; 2 on errors; 128 + N when signal N ended it.

Examples:
  dmabuf top
  dmabuf top --view buffers --interval 0.5
  dmabuf top --once --view exporters
  dmabuf top --iterations 60 --json > minute.jsonl`;

interface Flags extends Format {
  interval: number;
  view: View;
  iterations?: number;
  once?: boolean;
  source: NonNullable<SnapshotOptions['source']>;
}

/** `dmabuf top` */
export function topCommand(): Command {
  const command = subcommand('top', 'Shows live which process holds how much.', HELP)
    .addOption(
      new Option('-i, --interval <seconds>', 'how long to wait between two snapshots')
        .argParser(seconds)
        .default(1000, '1'),
    )
    .addOption(
      new Option('--view <view>', 'what to list first')
        .choices(['buffers', 'processes', 'exporters'])
        .default('processes'),
    )
    .option('-N, --iterations <n>', 'take n snapshots, print plain text, and end', whole(1))
    .addOption(new Option('-1, --once', 'the same as --iterations 1').implies({ iterations: 1 }));
  return withFormat(withSource(command)).action(top);
}

async function top(flags: Flags, command: Command): Promise<void> {
  if (flags.iterations !== undefined) return printPlainly(flags, flags.iterations);
  if (flags.json || flags.csv) command.error('error: --json and --csv need --once or --iterations');
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    command.error('error: this needs a terminal; --once or --iterations print plainly');
  }
  return showLive(flags);
}

async function printPlainly(flags: Flags, iterations: number): Promise<void> {
  const { initialState, summaryOf, tableOf } = await import('./top-screen.js');
  const state = initialState(flags.view, flags.interval);
  let left = iterations;
  let first: Snapshot | undefined;
  for await (const taken of watch({ interval: flags.interval, source: flags.source })) {
    first ??= taken;
    if (flags.json) print(toJson(taken));
    else if (flags.csv) await printCsv(taken, flags.view, left === iterations);
    else {
      if (left < iterations) print('');
      const [headings = '', ...lines] = await tableOf(taken, state, flags, outputWidth(), first);
      print(summaryOf(taken, flags), bold(headings), ...lines);
    }
    if (--left === 0) {
      noteUnseen('top', taken, flags);
      return;
    }
  }
}

/** Every row with its time, so that many snapshots make one table. */
async function printCsv(taken: Snapshot, view: View, withHeadings: boolean): Promise<void> {
  const { bufferColumns, exporterColumns, processColumns } = await import('./buffers.js');
  const { toCsv } = await import('./output.js');
  const time = { title: 'time', value: () => taken.time.toISOString() };
  const csv =
    view === 'buffers'
      ? await toCsv(taken.buffers, [time, ...bufferColumns(taken.processes)])
      : view === 'processes'
        ? await toCsv(taken.processes, [time, ...processColumns])
        : await toCsv(taken.exporters, [time, ...exporterColumns]);
  // Names are escaped, so that the first line is the headings.
  process.stdout.write(withHeadings ? csv : csv.slice(csv.indexOf('\n') + 1));
}

const enterScreen = '\x1b[?1049h\x1b[?25l';
const leaveScreen = '\x1b[?25h\x1b[?1049l';

/** Takes over the terminal, and restores it whenever the process ends. */
class Screen {
  #isOn = false;

  constructor() {
    process.on('exit', () => this.leave());
  }

  enter(): void {
    if (this.#isOn) return;
    this.#isOn = true;
    process.stdin.setRawMode(true);
    process.stdout.write(enterScreen);
  }

  leave(): void {
    if (!this.#isOn) return;
    this.#isOn = false;
    try {
      process.stdout.write(leaveScreen);
      process.stdin.setRawMode(false);
    } catch {
      // The terminal has gone.
    }
  }

  draw(lines: readonly string[]): void {
    if (this.#isOn) process.stdout.write(`\x1b[H${lines.map((line) => `${line}\x1b[K`).join('\r\n')}\x1b[J`);
  }
}

async function showLive(flags: Flags): Promise<void> {
  const { emitKeypressEvents } = await import('node:readline');
  const { afterKey, initialState, renderScreen } = await import('./top-screen.js');
  const { stdin, stdout } = process;
  const screen = new Screen();
  let state: TopState = initialState(flags.view, flags.interval);
  let taken: Snapshot | undefined;
  let first: Snapshot | undefined;
  let wake = new AbortController();
  let end: () => void = () => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });

  let drawing = Promise.resolve();
  const draw = (): void => {
    drawing = drawing.then(async () => {
      // A terminal may not know its size, and say 0.
      const columns = stdout.columns || 80;
      const rows = stdout.rows || 24;
      const rendered = await renderScreen(taken, state, flags, { columns, rows }, first);
      state = { ...state, scroll: rendered.state.scroll };
      screen.draw(rendered.lines);
    });
    drawing.catch(fail);
  };
  let failure: unknown;
  const fail = (error: unknown): void => {
    failure ??= error;
    end();
  };
  const endBy = (signal: NodeJS.Signals): void => {
    // The terminal has gone, or the program that read the output.
    if (signal === 'SIGHUP') endByHangUp();
    process.exitCode = 128 + constants.signals[signal];
    end();
  };
  const endByHangUp = (): void => {
    screen.leave();
    endBySignal('SIGHUP');
  };
  const suspend = (): void => {
    screen.leave();
    process.kill(process.pid, 'SIGSTOP');
  };
  const onKey = (text: string | undefined, key: { name?: string; ctrl?: boolean }): void => {
    if (key.ctrl) {
      if (key.name === 'c') endBy('SIGINT');
      else if (key.name === 'z') suspend();
      else if (key.name === 'l') draw();
      return;
    }
    const known = ['up', 'down', 'pageup', 'pagedown', 'home', 'end', 'tab', 'space'];
    const before = state;
    const page = Math.max(1, (stdout.rows || 24) - 6);
    state = afterKey(state, known.includes(key.name ?? '') ? (key.name as string) : (text ?? ''), page);
    if (state.done) end();
    if (state.interval !== before.interval || state.paused !== before.paused) wake.abort();
    draw();
  };
  const onContinue = (): void => {
    screen.enter();
    draw();
  };

  /** Takes snapshots until the end; a new interval, or the end of a pause, begins a new watch. */
  const look = async (): Promise<void> => {
    while (!state.done) {
      const { signal } = wake;
      try {
        if (state.paused)
          await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
        else {
          for await (taken of watch({ interval: state.interval, source: flags.source, signal })) {
            first ??= taken;
            draw();
          }
        }
      } catch (error) {
        if (!signal.aborted) throw error;
      }
      if (signal.aborted) wake = new AbortController();
    }
  };

  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, endBy);
  process.on('SIGCONT', onContinue);
  stdout.on('resize', draw);
  try {
    emitKeypressEvents(stdin);
    stdin.on('keypress', onKey);
    stdin.on('end', endByHangUp);
    stdin.on('error', endByHangUp);
    screen.enter();
    stdin.resume();
    draw();
    look().catch(fail);
    await ended;
  } finally {
    state = { ...state, done: true };
    wake.abort();
    process.off('SIGCONT', onContinue);
    stdin.off('keypress', onKey);
    stdout.off('resize', draw);
    await drawing.catch(() => {});
    screen.leave();
    stdin.pause();
    for (const signal of signals) process.off(signal, endBy);
  }
  if (failure !== undefined) throw failure;
}
