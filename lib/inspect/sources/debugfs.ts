import { constants } from 'node:os';
import { createError, DmaBufError } from '../../errors.js';
import { configured, kernelConfig } from '../../kernel-config.js';
import { native } from '../../native.js';
import { whyRootMayNot } from '../../rights.js';
import type { BufferUsage } from '../model.js';
import { figure, onThreadPool, type Survey } from './survey.js';

const path = '/sys/kernel/debug/dma_buf/bufinfo';

/**
 * The line that the kernel prints for a buffer (drivers/dma-buf/dma-buf.c, dma_buf_debug_show), up to the name. It has at
 * least 46 bytes, so no name, which has at most 31, can contain one.
 */
const objectLine = /(?:^|\n)(\d{8,})\t[0-9a-f]{8,}\t[0-9a-f]{8,}\t(\d{8,})\t([^\t\n]+)\t(\d{8,})\t/g;

const devicesLine = '\n\tAttached Devices:\n';

/**
 * A fence's line by its form, in all variants of the kernel: `Exclusive fence: etnaviv 134000.gpu signalled` before 5.18,
 * `read fence:vgem unbound seq 1 unsignalled`, `read fence:2:1 unbound vgem unsignalled` on 7.2.
 */
const fenceLine = /^\t[A-Za-z]+ fence:.* (?:un)?signalled$/;

/** The headings of a kernel that prints names (5.3) without a heading for them (before 5.19): an unset name is empty there. */
const headingsWithoutName = /^\n?[^\n]*\n[^\n]*\texp_name\tino[^\n\t]*\n/;

/** The last line, and how many buffers it counts. */
const totalLine = /\nTotal (\d+) objects, \d+ bytes\n$/;

/** The maximum length of a name, in bytes. */
const maxName = 31;

/**
 * The name in what follows an object's line: the name, a newline, and lines of fences. Undefined when it is unset, or
 * contains newlines so that the text is ambiguous.
 */
function nameIn(text: string, isUnsetWhenEmpty: boolean): string | undefined {
  const lines = text.split('\n');
  const names: string[] = [];
  let name = '';
  for (const [index, line] of lines.entries()) {
    name = index === 0 ? line : `${name}\n${line}`;
    if (name.length > maxName) break;
    if (lines.slice(index + 1).every((rest) => fenceLine.test(rest))) names.push(name);
  }
  const [only] = names;
  if (names.length !== 1 || only === undefined || only === '<none>') return undefined;
  if (only === '' && isUnsetWhenEmpty) return undefined;
  return Buffer.from(only, 'latin1').toString();
}

function objectOf(match: RegExpExecArray, rest: string, isUnsetWhenEmpty: boolean): BufferUsage {
  const [, size, references, exporter, inode] = match as unknown as [string, string, string, string, string];
  const usage: BufferUsage = {
    inode: figure(inode, path),
    size: figure(size, path),
    exporter: Buffer.from(exporter, 'latin1').toString(),
    references: figure(references, path),
    devices: [],
    holders: [],
  };
  // The last one is the kernel's, whatever the name contains.
  const devices = rest.lastIndexOf(devicesLine);
  const name = nameIn(devices < 0 ? rest : rest.slice(0, devices), isUnsetWhenEmpty);
  if (name !== undefined) usage.name = name;
  if (devices >= 0) {
    for (const line of rest.slice(devices + devicesLine.length).split('\n')) {
      if (!line.startsWith('\t')) break;
      usage.devices?.push(Buffer.from(line.slice(1), 'latin1').toString());
    }
  }
  return usage;
}

/**
 * The buffers in the text of debugfs' bufinfo, in which every byte is one character.
 *
 * @throws DmaBufError `EOVERFLOW` for a figure beyond 2^53 − 1
 */
export function parseBufferInfo(text: string): BufferUsage[] {
  const matches = [...text.matchAll(objectLine)];
  const isUnsetWhenEmpty = headingsWithoutName.test(text);
  return matches.map((match, index) => {
    const end = matches[index + 1]?.index ?? text.length;
    return objectOf(match, text.slice(match.index + match[0].length, end), isUnsetWhenEmpty);
  });
}

/**
 * The kernel's count must be equal to the number of buffers that were understood: before 5.3 it printed no inodes, which
 * identify buffers.
 */
function checkCount(text: string, found: number): void {
  const counted = totalLine.exec(text)?.[1];
  if (Number(counted) === found) return;
  const code = 'ERR_DMABUF_UNSUPPORTED_KERNEL';
  const what = `${path} has ${counted ?? 'an unknown number of'} buffers, of which this library understands ${found}`;
  throw new DmaBufError(`${code}: ${what}`, { code, path });
}

function adviceOnMissing(): string {
  const config = kernelConfig();
  const isMissing = config && configured(config, 'CONFIG_DEBUG_FS') === 'n';
  const without = 'the kernel was built without CONFIG_DEBUG_FS';
  const unmounted = 'debugfs is not mounted (mount -t debugfs debugfs /sys/kernel/debug)';
  if (config === undefined) return `${unmounted}, or ${without}`;
  return isMissing ? without : unmounted;
}

function explain(errno: number, syscall: string): DmaBufError {
  const advice =
    errno === -constants.errno.ENOENT
      ? adviceOnMissing()
      : (whyRootMayNot('DAC_OVERRIDE') ?? 'only root may read debugfs');
  return createError(errno, syscall, path, advice);
}

/** Reads debugfs: every buffer, and the devices that have attached to it. It does not know the holders. */
export async function surveyDebugfs(): Promise<Survey> {
  const text = await onThreadPool<Buffer>((done) => native.readWhole(path, done), explain);
  const buffers = parseBufferInfo(text.toString('latin1'));
  checkCount(text.toString('latin1'), buffers.length);
  return {
    source: 'debugfs',
    buffers: new Map(buffers.map((buffer) => [buffer.inode, buffer])),
    commands: new Map(),
    unreadable: [],
  };
}
