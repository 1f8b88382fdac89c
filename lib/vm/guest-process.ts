import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { VmError, type VmErrorCode } from './errors.js';
import { logMark } from './guest.js';
import type { InputSource } from './input.js';
import { KernelLog, type Splat } from './kernel-log.js';
import { lackingByBoot, SILENT } from './kernel-needs.js';
import { type Forwarded, forward } from './output.js';
import { type Machine, qemuArguments } from './qemu.js';
import { Screendump } from './screendump.js';

/** Where QEMU finds its ends of the sockets, and the initramfs: the order of `stdio` below. */
const SOCKETS = {
  ...{ console: 3, stdout: 4, stderr: 5, control: 6, stdin: 8, events: 9 },
  ...{ log: 10, monitor: 11 },
} as const;
const INITRAMFS_FD = 7;

/** A boot takes about four seconds; one that takes this long hangs. */
const BOOT_SECONDS = 180;

/** How much of QEMU's own words is kept, in bytes. */
const QEMU_ERRORS_KEPT = 64 * 1024;

/** Where the kernel drops what is written to its log (printk.devkmsg=off), the log has no end to wait for. */
const LOG_END_SECONDS = 5;

/** What is needed to start one guest. */
export interface GuestOptions {
  qemu: string;
  /** Words before QEMU's own that make the kernel end it together with this process, however that ends. */
  endWithParent: readonly string[];
  machine: Omit<Machine, 'initramfs' | 'sockets'>;
  initramfs: Uint8Array;
  /** What the guest writes to each of its outputs last. */
  endMark: string;
  /** Milliseconds. */
  timeout: number;
  stdout: Writable;
  stderr: Writable;
  /** What the command writes to its descriptor 3, where it has one. */
  events: Writable | undefined;
  /** What the command reads; nothing when there is none. */
  input: InputSource | undefined;
  console: Writable | undefined;
  /** A file for pictures of the display. */
  screendump: string | undefined;
  /** Receives the kernel's log. */
  kernelLog: Writable | undefined;
  progress: (message: string) => void;
  signal: AbortSignal | undefined;
  /** Called just before the command starts. */
  onStart?: () => void;
}

type Phase = 'starting' | 'up' | 'run' | 'ended';

const WAS_DOING: Record<Phase, string> = {
  starting: 'the guest was still booting',
  up: 'the guest was still booting',
  run: 'the command was still running',
  ended: 'the command had ended, but not all of its output was taken',
};

/** A process that the guest's kernel killed because memory was used up. */
export interface Killed {
  /** The name that the kernel's message gives it. */
  name: string;
  /** Its id in the guest. */
  pid: number;
  /** Whether a control group's limit was reached, and not that of the guest's memory. */
  inControlGroup: boolean;
}

/** How a guest ended. */
export interface GuestResult {
  exitCode: number;
  /** The processes that the guest's kernel killed because memory was used up. */
  outOfMemory: Killed[];
  /** What the guest's kernel has found wrong with itself. */
  splats: Splat[];
}

/** Boots a guest, passes its output on, and resolves with the command's exit status. */
export function runGuest(options: GuestOptions): Promise<GuestResult> {
  return new Promise((resolve, reject) => {
    if (options.signal?.aborted) {
      reject(options.signal.reason as Error);
      return;
    }
    const child = start(options);
    let failure: Error | undefined;
    let exitCode: number | undefined;
    let isComplete = false;
    let phase: Phase = 'starting';
    const log = new KernelLog(logMark(options.endMark), options.kernelLog, ({ message }) => {
      options.progress(`the kernel's log is cut off: ${message}`);
    });
    let logged = Promise.resolve();
    let qemuErrors = '';

    const end = (reason: Error): void => {
      failure ??= reason;
      child.kill('SIGKILL');
    };
    const fail = (code: VmErrorCode, message: string): void => {
      end(new VmError(code, message, lastWords(log, phase, options)));
    };
    const timer = setTimeout(() => {
      const where = WAS_DOING[phase];
      fail(
        'ETIMEDOUT',
        `${where} after ${options.timeout / 1000} s, its time limit (timeout, --timeout); the guest was ended`,
      );
    }, options.timeout);
    const bootTimer = setTimeout(() => {
      const silence = log.text.trim() === '' ? `. ${SILENT}` : '';
      const message = `the guest had not booted after ${BOOT_SECONDS} s${silence}`;
      end(new HungAtBoot('ERR_DMABUF_VM_BOOT', message, lastWords(log, phase, options)));
    }, BOOT_SECONDS * 1000);
    const onAbort = (): void => end(options.signal?.reason as Error);
    options.signal?.addEventListener('abort', onAbort, { once: true });

    const stream = (fd: number): Duplex => (child.stdio as (Duplex | null)[])[fd] as Duplex;
    stream(2).on('data', (chunk: Buffer) => {
      qemuErrors = (qemuErrors + chunk.toString()).slice(-QEMU_ERRORS_KEPT);
      // QEMU stops such a guest but does not end it
      if (qemuErrors.includes('KVM internal error')) fail('ERR_DMABUF_VM_QEMU', 'KVM failed on this machine');
    });
    stream(SOCKETS.console).on('data', (chunk: Buffer) => {
      log.addConsole(chunk);
      options.console?.write(chunk);
    });
    stream(SOCKETS.log).on('data', (chunk: Buffer) => log.addRecords(chunk));
    const tell = (line: string): void => {
      stream(SOCKETS.control).write(`${line}\n`);
    };
    const pictures =
      options.screendump === undefined
        ? undefined
        : new Screendump(options.screendump, stream(SOCKETS.monitor), { tell, fail: end });
    let controlText = '';
    stream(SOCKETS.control).on('data', (chunk: Buffer) => {
      controlText += chunk.toString();
      const lines = controlText.split('\n');
      controlText = lines.pop() ?? '';
      for (const line of lines) {
        const [word, rest] = [line.split(' ', 1)[0], line.slice(line.indexOf(' ') + 1)];
        if (word === 'up' || word === 'run') phase = word;
        if (word === 'run') {
          clearTimeout(bootTimer);
          options.onStart?.();
          options.input?.attach({
            stdin: stream(SOCKETS.stdin),
            tell,
            fail: end,
          });
        }
        if (word === 'picture') void pictures?.answer(rest);
        if (word === 'log') logged = log.ended;
        if (word === 'fail') {
          const [what, ...message] = rest.split(' ');
          // The kernel has no part in an option that is wrong.
          if (what === 'OPTION') end(new VmError('ERR_DMABUF_VM_OPTION', message.join(' ')));
          else fail(`ERR_DMABUF_VM_${what}` as VmErrorCode, message.join(' '));
        }
        if (word === 'exit') {
          exitCode = Number(rest);
          phase = 'ended';
          // There is no need to wait until it has powered off.
          void Promise.all(outputs.map(({ ended }) => ended))
            .then(() => Promise.race([logged, delay(LOG_END_SECONDS * 1000, undefined, { ref: false })]))
            .then(() => {
              isComplete = true;
              child.kill('SIGKILL');
            });
        }
      }
    });
    const onSinkError = (cause: Error): void => {
      const message = `the command's output cannot be passed on: ${cause.message}`;
      end(new VmError('ERR_DMABUF_VM_OUTPUT', message, { cause }));
    };
    const mark = Buffer.from(options.endMark);
    const outputs: Forwarded[] = [
      forward(stream(SOCKETS.stdout), options.stdout, mark, onSinkError),
      forward(stream(SOCKETS.stderr), options.stderr, mark, onSinkError),
      ...(options.events === undefined
        ? []
        : [forward(stream(SOCKETS.events), options.events, mark, onSinkError)]),
    ];

    // QEMU may be gone before it has read what was meant for it.
    for (const fd of [SOCKETS.stdin, SOCKETS.control, SOCKETS.monitor]) stream(fd).on('error', () => {});
    const finish = (): void => {
      clearTimeout(timer);
      clearTimeout(bootTimer);
      options.signal?.removeEventListener('abort', onAbort);
    };
    child.on('error', (error) => {
      finish();
      pictures?.close();
      reject(new VmError('ERR_DMABUF_VM_TOOL', `${options.qemu} cannot be started`, { cause: error }));
    });
    // 'close' comes after the end of every stream, so nothing the guest has written is still to come
    child.on('close', (status, signal) => {
      finish();
      pictures?.close();
      const shown = Promise.all([...outputs.map(({ flushed }) => flushed()), log.close()]);
      void shown
        .then(() => options.input?.detach(isComplete))
        .then(() => {
          if (failure !== undefined) reject(failure);
          else if (exitCode !== undefined && isComplete)
            resolve({ exitCode, outOfMemory: killedForMemory(log.consoleText), splats: log.splats });
          else reject(unexpectedEnd(phase, { status, signal, qemuErrors }, log, options));
        });
    });
  });
}

function start({ qemu, endWithParent, machine, initramfs }: GuestOptions): ReturnType<typeof spawn> {
  const args = qemuArguments({ ...machine, initramfs: `/dev/fd/${INITRAMFS_FD}`, sockets: SOCKETS });
  const file = unnamedFile(initramfs);
  try {
    const words = [...endWithParent, qemu, ...args];
    return spawn(words[0] as string, words.slice(1), {
      // a process group of its own: Ctrl-C is for the runner, which ends QEMU in order
      detached: true,
      stdio: ['ignore', 'ignore', ...pipes(5), file, ...pipes(4)],
    });
  } finally {
    closeSync(file);
  }
}

function pipes(count: number): 'pipe'[] {
  return Array.from({ length: count }, () => 'pipe' as const);
}

/** A temporary file that has lost its name already, so that nothing is left however this process ends. */
function unnamedFile(content: Uint8Array): number {
  let folder: string | undefined;
  try {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-vm-'));
    const path = join(folder, 'initramfs');
    writeFileSync(path, content, { mode: 0o600 });
    return openSync(path, 'r');
  } catch (cause) {
    throw new VmError(
      'ERR_DMABUF_VM_STORAGE',
      `the initramfs cannot be written to ${tmpdir()}: ${(cause as Error).message}`,
      { hint: 'Set TMPDIR to a folder that can be written and has 50 MB free', cause },
    );
  } finally {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  }
}

function unexpectedEnd(
  phase: Phase,
  { status, signal, qemuErrors }: { status: number | null; signal: string | null; qemuErrors: string },
  log: KernelLog,
  options: GuestOptions,
): VmError {
  const error = (code: VmErrorCode, message: string, from?: RegExp): VmError =>
    new VmError(code, message, lastWords(log, phase, options, from));
  const isBooting = phase === 'starting' || phase === 'up';
  const lacking = isBooting ? lackingByBoot(log.text) : undefined;
  if (lacking !== undefined) return error('ERR_DMABUF_VM_KERNEL', lacking);
  const panic = /Kernel panic - not syncing: (.*)/.exec(log.consoleText);
  if (panic !== null) {
    // what led to it stands first: the rest is registers and call traces
    const from = /(BUG: |Oops: |Kernel panic)/;
    return error('ERR_DMABUF_VM_PANIC', `the guest's kernel panicked: ${panic[1]?.trim()}`, from);
  }
  if (status !== 0) {
    const { devices, machine } = options.machine;
    if (phase === 'starting' && (devices.length > 0 || machine.length > 0)) {
      const message = `QEMU refuses what devices (--device) or machine (--machine) ask for: ${qemuErrors.trim()}`;
      return new VmError('ERR_DMABUF_VM_OPTION', message);
    }
    const how = signal === null ? `status ${status}` : `signal ${signal}`;
    return error('ERR_DMABUF_VM_QEMU', `QEMU ended with ${how}: ${qemuErrors.trim()}`);
  }
  if (phase === 'run' || phase === 'ended') {
    return error('ERR_DMABUF_VM_DIED', 'the guest powered off before the command had reported its status');
  }
  const silence = log.text.trim() === '' ? `. ${SILENT}` : '';
  return error('ERR_DMABUF_VM_BOOT', `the guest powered off before it had booted${silence}`);
}

/**
 * What the kernel said that may explain a failure: of a boot the end of its log; once the command runs, what it found wrong,
 * or what was serious enough for the console.
 */
function lastWords(
  log: KernelLog,
  phase: Phase,
  { kernelLog }: GuestOptions,
  from?: RegExp,
): { consoleTail: string; hint: string | undefined } {
  const isBooting = phase === 'starting' || phase === 'up';
  const consoleTail = isBooting || from !== undefined ? log.tail({ from }) : log.seriousTail();
  return {
    consoleTail,
    hint:
      consoleTail !== '' && kernelLog === undefined ? 'All of it: --kernel-log FILE (kernelLog)' : undefined,
  };
}

/** A guest that did not reach the command in a time that is always enough: another boot would end in the same way. */
export class HungAtBoot extends VmError {}

function killedForMemory(consoleText: string): Killed[] {
  return [...consoleText.matchAll(/(Memory cgroup out of memory: )?Killed process (\d+) \((.*?)\)/g)].map(
    ([, group, pid, name]) => ({
      name: name as string,
      pid: Number(pid),
      inControlGroup: group !== undefined,
    }),
  );
}
