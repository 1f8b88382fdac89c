// Runs in a mount namespace where /dev/dma_heap is an empty tmpfs, and sees what allocate() and allocateSync() keep of it.
// DMABUF_TEST_DEVICE: the numbers of the system heap's device, as "major minor".

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
} from 'node:fs';
import { Worker } from 'node:worker_threads';
import { allocate, allocateSync, openHandles, type Source } from 'dmabuf';
import { openFds, openNull, reuse } from '../descriptors.js';
import { report } from '../programs.js';

export interface KeptHeapsReport {
  /** Where the buffers came from, or the error's code. */
  readonly sources: Record<string, string>;
  /** The heaps' descriptors that stay open, by how they came. */
  readonly kept: Record<string, string[]>;
  readonly isSameError: boolean;
  readonly handles: unknown[];
  readonly strangerAfterwards: string;
}

const folder = '/dev/dma_heap';
const device = (process.env.DMABUF_TEST_DEVICE as string).split(' ');

let time = 0;

/** Has the folder look as if what happened to it last was long ago: what is found in it may be kept then. */
function settle(): void {
  time++;
  utimesSync(folder, time, time);
}

function node(name: string): void {
  execFileSync('mknod', [`${folder}/${name}`, 'c', ...device]);
  execFileSync('chmod', ['666', `${folder}/${name}`]);
}

/** The descriptors of heaps: number and path. */
function heaps(): [number, string][] {
  return [...openFds()].filter(([, target]) => target.startsWith(`${folder}/`));
}

const sources: Record<string, string> = {};
const kept: Record<string, string[]> = {};

function sourceOf(from: Source | Source[]): string {
  try {
    using buffer = allocateSync(4096, { from, unchecked: true });
    return buffer.source ?? '';
  } catch (error) {
    return (error as { code: string }).code;
  }
}

function note(what: string, from: Source | Source[] = ['system', 'udmabuf']): void {
  sources[what] = sourceOf(from);
  kept[what] = heaps().map(([, target]) => target);
}

settle();
note('before there is a heap');
note('before there is a heap, again');
node('system');
settle();
note('after it came');
{
  const [first] = heaps();
  note('again');
  const [second] = heaps();
  kept['the same descriptor'] = [String(first !== undefined && first[0] === second?.[0])];
}
using held = await allocate(4096, { from: 'system', unchecked: true });
kept['by allocate()'] = heaps().map(([, target]) => target);
const handles = openHandles().map(({ type }) => type);
held.close();

note('cma before it is there', ['cma', 'system']);
using one = allocateSync(4096, { from: ['cma', 'system'], unchecked: true });
using other = allocateSync(4096, { from: ['cma', 'system'], unchecked: true });
const isSameError = one.attempts[0]?.error === other.attempts[0]?.error;
node('linux,cma');
note('cma at once after it came', ['cma', 'system']);
settle();
note('cma later', ['cma', 'system']);
node('default_cma_region');
settle();
note('cma after one came that is preferred', 'cma');
rmSync(`${folder}/default_cma_region`);
rmSync(`${folder}/linux,cma`);
settle();
note('cma after it went', ['cma', 'system']);

// Without a change of the folder's time: a mount over the node.
note('before another device is mounted over it');
execFileSync('mount', ['--bind', '/dev/null', `${folder}/system`]);
note('while another device is mounted over it');
execFileSync('umount', [`${folder}/system`]);
note('afterwards');

// The node itself.
node('other');
renameSync(`${folder}/other`, `${folder}/system`);
settle();
note('after the node was replaced');

// A link that leads nowhere at first: nothing in the folder tells when that ends.
symlinkSync('/mnt/later', `${folder}/linked`);
settle();
note('a link to nowhere', ['linked', 'system']);
execFileSync('mknod', ['/mnt/later', 'c', ...device]);
note('a link to nowhere that leads somewhere', ['linked', 'system']);
rmSync(`${folder}/linked`);
settle();

// The number is closed by whoever closes what is not theirs, and becomes another file's.
note('before its number is lost');
const [lost] = heaps();
reuse(lost?.[0] as number, openNull);
note('after its number was lost');
const strangerAfterwards = readlinkSync(`/proc/self/fd/${lost?.[0]}`);
closeSync(lost?.[0] as number);

const worker = new Worker(
  `import(${JSON.stringify(import.meta.resolve('dmabuf'))}).then(({ allocateSync }) => allocateSync(4096, { unchecked: true }).close())`,
  { eval: true },
);
const before = heaps().length;
await once(worker, 'exit');
kept['by a worker that has ended'] = [String(heaps().length - before)];

// Last, since there is no way back.
process.setgroups?.([]);
process.setegid?.(65534);
process.seteuid?.(65534);
note('as another user whom the modes allow it', 'system');
process.seteuid?.(0);
chmodSync(`${folder}/system`, 0o600);
process.seteuid?.(65534);
note('as another user whom the modes forbid it', 'system');
process.seteuid?.(0);
note('as root again', 'system');
for (const name of readdirSync(folder)) rmSync(`${folder}/${name}`);

report({ sources, kept, isSameError, handles, strangerAfterwards } satisfies KeptHeapsReport);
