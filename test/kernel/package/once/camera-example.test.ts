// The example in examples/camera, as its readers start it: two processes, either of which may die.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach } from 'node:test';
import { until } from '../../../support/event-loop.js';
import { kernelTest } from '../../../support/kernel-test.js';
import { packageRoot } from '../../../support/programs.js';

/** A program of the example and the lines it writes. */
class Program {
  readonly pid: number;
  readonly #process: ChildProcess;
  readonly #end: Promise<unknown[]>;
  readonly #lines: string[] = [];
  #ended = false;
  #heard: () => void = () => {};

  constructor(name: 'producer' | 'consumer', path: string, ...args: string[]) {
    const file = join(packageRoot, `dist/examples/camera/${name}.js`);
    this.#process = spawn(process.execPath, [file, '--path', path, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.pid = this.#process.pid as number;
    running.add(this);
    this.#end = once(this.#process, 'close');
    this.#end.then(() => {
      this.#ended = true;
      this.#heard();
    });
    createInterface({ input: this.#process.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      this.#lines.push(line);
      this.#heard();
    });
  }

  /** The next line that matches; lines before it are passed over. */
  async line(pattern: RegExp): Promise<string> {
    for (;;) {
      for (let line = this.#lines.shift(); line !== undefined; line = this.#lines.shift()) {
        if (pattern.test(line)) return line;
      }
      assert.ok(!this.#ended, `it ended without ${pattern}`);
      await new Promise<void>((resolve) => {
        this.#heard = resolve;
      });
    }
  }

  async ends(signal?: NodeJS.Signals): Promise<{ code: unknown; signal: unknown }> {
    if (signal !== undefined) this.#process.kill(signal);
    const [code, endedBy] = await this.#end;
    return { code, signal: endedBy };
  }
}

/** Every program that a test has started ends with it, whatever it asserted. */
const running = new Set<Program>();
afterEach(async () => {
  for (const program of running) await program.ends('SIGKILL');
  running.clear();
});

let sockets = 0;
const nextPath = (): string => `/tmp/camera-test-${process.pid}-${++sockets}.sock`;

const well = { code: 0, signal: null };
const killed = { code: null, signal: 'SIGKILL' };

/** Descriptors of dma-bufs in a process. */
function buffersOf(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith('/dmabuf:');
    } catch {
      return false; // It was closed meanwhile.
    }
  }).length;
}

/** Buffers on the whole machine. */
function buffersInKernel(): number {
  const [, count] =
    /^Total (\d+) objects/m.exec(readFileSync('/sys/kernel/debug/dma_buf/bufinfo', 'latin1')) ?? [];
  return Number(count);
}

kernelTest(
  'every frame arrives in order and whole, and a slow consumer slows the producer down',
  async () => {
    const path = nextPath();
    const producer = new Program('producer', path, '--buffers', '3');
    const consumer = new Program('consumer', path, '--frames', '20', '--delay', '5');
    await consumer.line(/^consumer: 20 frames, all in order and whole$/);
    assert.deepEqual(await consumer.ends(), well);
    const [, frames, buffers] =
      /after (\d+) frames in (\d+) buffers/.exec(await producer.line(/is gone/)) ?? [];
    assert.ok(Number(frames) <= 20 + 3, `${frames} frames were captured for 20 that were looked at`);
    assert.ok(Number(buffers) <= 3);
  },
);

kernelTest('a consumer that is killed costs the producer nothing, and the next one is served', async () => {
  const path = nextPath();
  const before = buffersInKernel();
  const producer = new Program('producer', path);
  const consumer = new Program('consumer', path, '--frames', '1000000');
  await consumer.line(/connected/);
  assert.deepEqual(await consumer.ends('SIGKILL'), killed);
  await producer.line(new RegExp(`consumer ${consumer.pid} is gone`));
  await until(() => buffersOf(producer.pid) === 0); // One may have been on its way from the heap.
  await until(() => buffersInKernel() === before);
  const next = new Program('consumer', path, '--frames', '10');
  assert.deepEqual(await next.ends(), well);
});

kernelTest(
  'a producer that is killed leaves nothing, and its consumer goes on with the next one',
  async () => {
    const path = nextPath();
    const before = buffersInKernel();
    const consumer = new Program('consumer', path, '--frames', '1000000', '--delay', '1');
    const producer = new Program('producer', path);
    await consumer.line(/connected/);
    assert.deepEqual(await producer.ends('SIGKILL'), killed);
    await consumer.line(/frames, all in order and whole/);
    await until(() => buffersInKernel() === before);
    const next = new Program('producer', path);
    await consumer.line(/connected/);
    assert.deepEqual(await consumer.ends('SIGKILL'), killed);
    await next.line(/is gone/);
  },
);

kernelTest('a producer that is asked to end does, even with clients', async () => {
  const path = nextPath();
  const producer = new Program('producer', path);
  const consumer = new Program('consumer', path, '--frames', '1000000', '--delay', '1');
  await consumer.line(/connected/);
  assert.deepEqual(await producer.ends('SIGTERM'), well);
  await consumer.line(/frames, all in order and whole/);
});
