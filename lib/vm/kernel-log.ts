import type { Writable } from 'node:stream';

/** A fault that the guest's kernel has reported about itself: a warning, a bug, a report of one of its checkers. */
export interface Splat {
  /** The line that names the fault, such as `WARNING: CPU: 0 PID: 12 at drivers/x.c:34 f+0x5/0x10`. */
  title: string;
  /** That line and those after it, such as the call trace. */
  text: string;
}

/** How many characters of the log are kept for messages, and how many lines messages show. */
const KEPT = 256 * 1024;
const SHOWN_LINES = 25;
/** More faults than these are counted and not kept. */
const MOST_SPLATS = 100;
/** How many lines belong to a fault; another fault that starts within them is part of it. */
const SPLAT_LINES = 45;
const NEAR_LINES = 8;

/**
 * How a kernel's report of a fault starts. "Call Trace:" is not included, since the kernel also prints it when memory
 * is used up; nor is "Warning:", which drivers print about settings.
 */
const BEGINNINGS: readonly RegExp[] = [
  /^(watchdog: )?BUG: /, // also of KASAN and KFENCE, lockups, bad pages, calls that sleep in atomic context
  /^BUG \S+ \(.*\): /, // slab_debug
  /^kernel BUG at /,
  /^WARNING: /, // WARN(), and lockdep's findings
  /^(\w+: )?refcount_t: /,
  /^Oops: /,
  /^Oops\b.*\[#\d+\]/,
  /^general protection fault/,
  /^(divide error|invalid opcode|stack segment|double fault|int3): \d+ \[#\d+\]/,
  /^Unable to handle kernel /,
  /^Internal error: /,
  /^Kernel panic - not syncing/,
  /^UBSAN: /,
  /^(list_add|list_del) corruption/,
  /^DMA-API: .*(error|leak|overlapping)/,
  /^kmemleak: \d+ new suspected memory leaks/,
  /^INFO: (possible|trying to register non-static key|task .* blocked for more than)/,
  /^rcu: INFO: .*(stall|detected)/,
];

/** A line above a fault that only says where it begins, and one below it. */
const CUT = /^-+\[ cut here \]-+$/;
const END = /^-+\[ end (trace|Kernel panic)/;

/** Whether a message of the kernel starts a report of a fault. */
export function beginsSplat(text: string): boolean {
  return BEGINNINGS.some((beginning) => beginning.test(text));
}

/**
 * The output of the guest's kernel: its log, which arrives record by record in the format of `/dev/kmsg`, from the
 * start of the boot, warnings included; and its console, which has the rest when the kernel cannot deliver its log any
 * longer.
 */
export class KernelLog {
  readonly splats: Splat[] = [];
  /** Resolves when the last record has been read, which says `end`. */
  readonly ended: Promise<void>;
  readonly #end: string;
  readonly #sink: Writable | undefined;
  readonly #onSinkError: (error: Error) => void;
  #isSinkBroken = false;
  #resolveEnded: () => void = () => {};
  #begun = '';
  #next = 0;
  #kept = '';
  #console = '';
  /** Of the last fault: the lines that may still come, and how many lines ago it began. */
  #current: { splat: Splat; lines: number } | undefined;
  #isAfterCut = false;

  /** `sink` receives the log; its failure is told, and the log goes on without it. */
  constructor(end: string, sink: Writable | undefined, onError: (error: Error) => void = () => {}) {
    this.#end = end;
    this.#sink = sink;
    this.#onSinkError = (error) => {
      if (!this.#isSinkBroken) onError(error);
      this.#isSinkBroken = true;
    };
    sink?.on('error', this.#onSinkError);
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
  }

  /** Takes a part of the records, which may begin and end anywhere. */
  addRecords(chunk: Buffer): void {
    const lines = (this.#begun + chunk.toString('latin1')).split('\n');
    this.#begun = lines.pop() ?? '';
    for (const line of lines) this.#addRecord(line);
  }

  /** Takes a part of the console. */
  addConsole(chunk: Buffer): void {
    this.#console = (this.#console + chunk.toString('latin1')).slice(-KEPT);
  }

  /** Once the guest has ended: hands over what only the console has, and resolves when the sink has taken everything. */
  async close(): Promise<void> {
    for (const line of this.#consoleOnly()) this.#write(line);
    const sink = this.#sink;
    if (sink === undefined) return;
    if (!this.#isSinkBroken) await new Promise<void>((resolve) => sink.write('', () => resolve()));
    sink.off('error', this.#onSinkError);
  }

  /** The last lines; or the first ones from a fault on, where that is what made the guest end. */
  tail({ from }: { from?: RegExp | undefined } = {}): string {
    const lines = [...this.#kept.split('\n'), ...this.#consoleOnly()].filter((line) => line !== '');
    const first = from === undefined ? -1 : lines.findIndex((line) => from.test(line));
    return (first < 0 ? lines.slice(-SHOWN_LINES) : lines.slice(first, first + SHOWN_LINES)).join('\n');
  }

  /** The last fault, or else the last lines that were serious enough for the console. */
  seriousTail(): string {
    const splat = this.splats.at(-1);
    if (splat !== undefined) return splat.text.split('\n').slice(0, SHOWN_LINES).join('\n');
    return this.#console.replaceAll('\r', '').trimEnd().split('\n').slice(-SHOWN_LINES).join('\n');
  }

  /** What the console has said, as it was. */
  get consoleText(): string {
    return this.#console;
  }

  /** The log and what only the console has. */
  get text(): string {
    return [this.#kept, ...this.#consoleOnly()].join('\n');
  }

  #addRecord(line: string): void {
    // Documentation/ABI/testing/dev-kmsg: level and facility, number, microseconds, flags; lines with a space are properties
    const [, first, sequence, microseconds, text] = /^(\d+),(\d+),(\d+),[^;]*;(.*)$/.exec(line) ?? [];
    if (text === undefined) return;
    const number = Number(sequence);
    if (number < this.#next) return; // The guest reads it from the beginning again when it has lost something.
    if (number > this.#next) {
      this.#write(`** ${number - this.#next} messages are lost: they came faster than they could be read **`);
    }
    this.#next = number + 1;
    if (text.includes(this.#end)) {
      this.#resolveEnded();
      return;
    }
    const isKernels = Number(first) >> 3 === 0;
    const shown = text.replace(/\\x([0-9a-f]{2})/g, (_, code: string) => escaped(Number.parseInt(code, 16)));
    const time = (Number(microseconds) / 1e6).toFixed(6).padStart(12);
    for (const one of shown.split('\n')) {
      const printed = `[${time}] ${one}`;
      if (isKernels) this.#look(one, printed);
      this.#kept = `${this.#kept}${printed}\n`;
      this.#write(printed);
    }
    // Not at every line: copying it costs.
    if (this.#kept.length > 2 * KEPT)
      this.#kept = this.#kept.slice(this.#kept.indexOf('\n', this.#kept.length - KEPT) + 1);
  }

  /** Looks whether a line begins a fault, or belongs to one. */
  #look(text: string, printed: string): void {
    const current = this.#current;
    if (current !== undefined) current.lines += 1;
    const isNear = current !== undefined && current.lines < NEAR_LINES && !this.#isAfterCut;
    if (beginsSplat(text) && !isNear) {
      this.#current = { splat: { title: text, text: printed }, lines: 0 };
      if (this.splats.length < MOST_SPLATS) this.splats.push(this.#current.splat);
    } else if (current !== undefined && current.lines < SPLAT_LINES && !CUT.test(text)) {
      current.splat.text += `\n${printed}`;
      if (END.test(text)) current.lines = SPLAT_LINES;
    }
    this.#isAfterCut = CUT.test(text);
  }

  #write(line: string): void {
    if (!this.#isSinkBroken) this.#sink?.write(Buffer.from(`${line}\n`, 'latin1'));
  }

  #consoleOnly(): string[] {
    const known = new Set(this.#kept.split('\n').map(withoutCaller));
    return this.#console
      .replaceAll('\r', '')
      .split('\n')
      .filter((line) => line !== '' && !line.includes(this.#end) && !known.has(withoutCaller(line)));
  }
}

/** What `/dev/kmsg` escapes; a control character stays so, but for the line break that parts two lines of a record. */
function escaped(code: number): string {
  if (code === 0x0a) return '\n';
  if (code === 0x09 || code >= 0x20) return String.fromCharCode(code);
  return `\\x${code.toString(16).padStart(2, '0')}`;
}

/** The console says who printed, where the kernel was built so (CONFIG_PRINTK_CALLER), and ends lines in spaces. */
function withoutCaller(line: string): string {
  return line.replace(/^(\[ *\d+\.\d+\]) ?\[ *[TC]\d+\] ?/, '$1 ').trimEnd();
}
