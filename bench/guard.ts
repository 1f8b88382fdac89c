// The guest's side of `npm run guard`: situations of memory pressure on a machine with contiguous memory, one after the
// other. In each, a process that the kernel would kill first asks the guarded allocator and, if the guard refuses, the
// kernel itself. Prints each result as a line of JSON. argv: the number of situations, the random seed, a large file
// for the page cache.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { allocateSync, type DmaBuf, type DmaBufError } from 'dmabuf';

const MiB = 1 << 20;

/** The request. */
interface Request {
  from: 'cma' | 'system';
  /** MiB */
  size: number;
  unchecked: boolean;
}

/** `served`, `killed`, or an error's code. */
interface Outcome {
  how: string;
  message?: string;
}

/** One situation, the request, and how the guard and the kernel answered. */
export interface Decision extends Omit<Request, 'unchecked'> {
  /** MiB of programs' own memory, of files in the page cache, and of buffers with gaps between them. */
  anonymous: number;
  cache: number;
  pieces: number;
  guard: string;
  /** The guard's answer. */
  message?: string | undefined;
  /** The kernel's answer, where the guard refused. */
  kernel?: string;
  /** Whether the kernel reclaimed memory of other programs to serve the request. */
  reclaimed?: boolean;
}

// ---------- the process that asks

function ask({ from, size, unchecked }: Request): Outcome {
  try {
    allocateSync(size * MiB, { from: [from], unchecked }).close();
    return { how: 'served' };
  } catch (error) {
    const { code, message, attempts } = error as DmaBufError;
    const [attempt] = attempts ?? [];
    return { how: attempt?.error.code ?? code, message };
  }
}

function answer(): void {
  writeFileSync('/proc/self/oom_score_adj', '1000');
  createInterface({ input: process.stdin }).on('line', (line) => {
    process.stdout.write(`${JSON.stringify(ask(JSON.parse(line) as Request))}\n`);
  });
}

/** A process that requests memory until the kernel kills it. */
class Asker {
  readonly #child: ChildProcess = spawn(process.execPath, [fileURLToPath(import.meta.url), 'ask'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  readonly #lines: Interface = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream });
  readonly #end = once(this.#child, 'exit').then((): Outcome => ({ how: 'killed' }));

  async ask(request: Request): Promise<Outcome> {
    const answered = once(this.#lines, 'line').then(([line]) => JSON.parse(line) as Outcome);
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
    return await Promise.race([answered, this.#end]);
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }
}

// ---------- situations

/** Random numbers that are the same for the same seed (mulberry32). */
function chance(seed: number): (least: number, most: number) => number {
  let state = seed;
  return (least, most) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return least + Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * (most - least + 1));
  };
}

/** A figure of /proc/meminfo in MiB. */
function memory(name: string): number {
  const line = new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(readFileSync('/proc/meminfo', 'utf8'));
  return Math.floor(Number(line?.[1]) / 1024);
}

function counter(name: string): number {
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(readFileSync('/proc/vmstat', 'utf8'))?.[1]);
}

function readInto(cache: string, size: number): void {
  const piece = Buffer.alloc(MiB);
  const file = openSync(cache, 'r');
  for (let place = 0; place < size; place++) readSync(file, piece, 0, MiB, place * MiB);
  closeSync(file);
}

/** A mebibyte of the program's own memory: a page is allocated when it is first written. */
function makePages(): Buffer {
  const pages = Buffer.allocUnsafeSlow(MiB);
  for (let place = 0; place < MiB; place += 4096) pages[place] = 1;
  return pages;
}

/** Buffers of a mebibyte from either heap, of which every second one is freed. */
function makePieces(size: number): DmaBuf[] {
  const held: DmaBuf[] = [];
  for (let made = 0; made < 2 * size; made++) {
    try {
      const buffer = allocateSync(MiB, { from: made % 4 < 2 ? ['cma', 'system'] : ['system'] });
      if (made % 2 === 0) held.push(buffer);
      else buffer.close();
    } catch {
      break; // Then it is full enough.
    }
  }
  return held;
}

async function decide(
  between: ReturnType<typeof chance>,
  cacheFile: string,
  asker: Asker,
): Promise<Decision> {
  writeFileSync('/proc/sys/vm/drop_caches', '3');
  const kinds = between(1, 7);
  const anonymous = kinds & 1 ? between(0, Math.floor(memory('MemAvailable') * 0.6)) : 0;
  const own = Array.from({ length: anonymous }, makePages);
  const cache = kinds & 2 ? between(0, memory('MemAvailable')) : 0;
  readInto(cacheFile, cache);
  const held = makePieces(kinds & 4 ? between(0, Math.floor(memory('MemTotal') / 10)) : 0);
  const from = between(0, 1) === 0 ? 'cma' : 'system';
  const there = from === 'cma' ? memory('CmaTotal') : memory('MemAvailable') - memory('CmaFree');
  const size = Math.max(1, Math.floor((there * between(10, 130)) / 100));
  const decision: Decision = { from, size, anonymous, cache, pieces: held.length, guard: '' };
  const { how, message } = await asker.ask({ from, size, unchecked: false });
  decision.guard = how;
  decision.message = message;
  if (how === 'ERR_DMABUF_MEMORY_GUARD') {
    const before = counter('pgscan_direct');
    decision.kernel = (await asker.ask({ from, size, unchecked: true })).how;
    decision.reclaimed = counter('pgscan_direct') > before;
  }
  for (const buffer of held) buffer.close();
  own.length = 0;
  globalThis.gc?.();
  return decision;
}

async function decideAll(count: number, seed: number, cacheFile: string): Promise<void> {
  writeFileSync('/proc/self/oom_score_adj', '-1000');
  const between = chance(seed);
  let asker = new Asker();
  for (let done = 0; done < count; done++) {
    const killed = counter('oom_kill');
    const decision = await decide(between, cacheFile, asker);
    if (counter('oom_kill') > killed) {
      // Any process counts, even if the request was served in the end.
      if (decision.kernel === undefined) decision.guard = 'killed';
      else decision.kernel = 'killed';
      asker.end();
      asker = new Asker();
    }
    process.stdout.write(`${JSON.stringify(decision)}\n`);
  }
  asker.end();
}

const [what = '', seed, cacheFile] = process.argv.slice(2);
if (what === 'ask') answer();
else await decideAll(Number(what), Number(seed), cacheFile as string);
