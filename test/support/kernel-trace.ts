import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';

const tracing = '/sys/kernel/tracing';

/** DMA_BUF_IOCTL_SYNC of <linux/dma-buf.h>. */
const syncRequest = 0x40086200;

const probes: Record<string, string> = {
  buffer: 'dma_buf_ioctl file=$arg1:x64 request=$arg2:x32 argument=+u0($arg3):u64',
  heap: 'dma_heap_ioctl file=$arg1:x64 request=$arg2:x32 argument=+u0($arg3):u64',
  mmap: 'dma_buf_mmap_internal file=$arg1:x64',
};

/** A call that reached the kernel's dma-buf code. */
export interface KernelCall {
  kind: 'buffer' | 'heap' | 'mmap';
  /** Identifies the open file. */
  file: string;
  /** Of an ioctl; 0 for mmap. */
  request: number;
  /** The first eight bytes that the call's argument points to. */
  argument: bigint;
}

function prepare(): string | false {
  try {
    if (!existsSync(`${tracing}/kprobe_events`)) {
      execFileSync('mount', ['-t', 'tracefs', 'tracefs', tracing], { stdio: 'pipe' });
    }
    readFileSync(`${tracing}/kprobe_events`);
    return false;
  } catch (error) {
    return `the kernel's calls cannot be recorded here: ${(error as Error).message}`;
  }
}

/** Why `recordCalls` cannot work here (no root, no kprobes); false when it can. */
export const cannotRecord: string | false = prepare();

const group = `dmabuf_test_${process.pid}`;
const instance = `${tracing}/instances/${group}`;
/** The threads whose calls are recorded. */
let recorded = '';

/** Defines the probes, until the process exits: setting a breakpoint in the kernel takes its time. */
function install(): void {
  mkdirSync(instance);
  process.once('exit', remove);
  for (const [kind, probe] of Object.entries(probes)) {
    appendFileSync(`${tracing}/kprobe_events`, `p:${group}/${kind} ${probe}\n`);
  }
  writeFileSync(`${instance}/events/${group}/enable`, '1');
}

function remove(): void {
  writeFileSync(`${instance}/events/${group}/enable`, '0');
  rmdirSync(instance);
  for (const kind of Object.keys(probes)) appendFileSync(`${tracing}/kprobe_events`, `-:${group}/${kind}\n`);
}

/** Everything recorded so far. Clearing the record would take the kernel longer than reading it again. */
function readCalls(): KernelCall[] {
  const line = /: (buffer|heap|mmap): .* file=(\w+)(?: request=(\w+) argument=(\w+))?$/gm;
  return [...readFileSync(`${instance}/trace`, 'utf8').matchAll(line)].map(
    ([, kind, file, request, argument]) => ({
      kind: kind as KernelCall['kind'],
      file: file as string,
      request: Number(request ?? 0),
      argument: BigInt(argument ?? 0),
    }),
  );
}

/** Runs `fn` and returns what reached the kernel's dma-buf code meanwhile from this process, in order. */
export function recordCalls(fn: () => void): KernelCall[] {
  if (recorded === '') install();
  const threads = readdirSync('/proc/self/task').join(' ');
  if (threads !== recorded) writeFileSync(`${instance}/set_event_pid`, threads);
  recorded = threads;
  const before = readCalls().length;
  fn();
  return readCalls().slice(before);
}

const syncNames: Record<string, string> = {
  1: 'START read',
  2: 'START write',
  3: 'START read-write',
  5: 'END read',
  6: 'END write',
  7: 'END read-write',
};

/** Runs `fn` and returns the DMA_BUF_IOCTL_SYNC requests that the kernel got meanwhile: `'START read'`, … */
export function recordSync(fn: () => void): string[] {
  const calls = recordCalls(fn).filter(({ request }) => request === syncRequest);
  return calls.map(({ argument }) => syncNames[String(argument)] ?? `flags ${argument}`);
}
