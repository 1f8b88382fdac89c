import { readFile } from 'node:fs/promises';
import { createError, DmaBufError } from '../errors.js';
import type { BufferUsage } from './snapshot.js';
import type { Survey } from './survey.js';

const path = '/sys/kernel/debug/dma_buf/bufinfo';

/**
 * The line that the kernel prints for a buffer (drivers/dma-buf/dma-buf.c, dma_buf_debug_show), up to the name. It has at
 * least 46 bytes, so no name, of which 31 is the most, holds one.
 */
const objectLine = /(?:^|\n)(\d{8,})\t[0-9a-f]{8,}\t[0-9a-f]{8,}\t(\d{8,})\t([^\t\n]+)\t(\d{8,})\t/g;

const devicesLine = '\n\tAttached Devices:\n';

/** A fence's line: 32 bytes or more with its newline, so no name holds one. */
const fenceLine = /^\t(?:kernel|write|read|bookkeep) fence:.+ .+ seq \d+ (?:un)?signalled$/;

/** The name in what follows an object's line; undefined when it cannot be told from the kernel's own text. */
function nameIn(text: string): string | undefined {
  const [name, ...fences] = text.split('\n') as [string, ...string[]];
  if (name === '<none>') return undefined;
  return fences.every((line) => fenceLine.test(line)) ? Buffer.from(name, 'latin1').toString() : undefined;
}

function objectOf(match: RegExpExecArray, rest: string): BufferUsage {
  const [, size, references, exporter, inode] = match as unknown as [string, string, string, string, string];
  const usage: BufferUsage = {
    inode: Number(inode),
    size: Number(size),
    exporter,
    references: Number(references),
    devices: [],
    holders: [],
  };
  // The last one is the kernel's, whatever the name holds.
  const devices = rest.lastIndexOf(devicesLine);
  const name = nameIn(devices < 0 ? rest : rest.slice(0, devices));
  if (name !== undefined) usage.name = name;
  if (devices >= 0) {
    for (const line of rest.slice(devices + devicesLine.length).split('\n')) {
      if (!line.startsWith('\t')) break;
      usage.devices?.push(Buffer.from(line.slice(1), 'latin1').toString());
    }
  }
  return usage;
}

/** The buffers in the text of debugfs' bufinfo, of which every byte is one character. */
export function parseBufferInfo(text: string): BufferUsage[] {
  const matches = [...text.matchAll(objectLine)];
  return matches.map((match, index) => {
    const end = matches[index + 1]?.index ?? text.length;
    return objectOf(match, text.slice(match.index + match[0].length, end));
  });
}

function explain(error: unknown): unknown {
  const { errno, code } = error as { errno?: number; code?: string };
  if (errno === undefined) return error;
  const advice =
    code === 'ENOENT'
      ? 'debugfs is not mounted (mount -t debugfs debugfs /sys/kernel/debug), or the kernel was built without CONFIG_DEBUG_FS'
      : 'debugfs is for root alone';
  const made = createError(errno, 'open', path);
  return new DmaBufError(`${made.message}. ${advice}.`, { code: made.code, errno, syscall: 'open', path, cause: error });
}

/** Reads debugfs: every buffer, and the devices that have attached to it. It knows no holders. */
export async function surveyDebugfs(): Promise<Survey> {
  const text = await readFile(path, 'latin1').catch((error) => {
    throw explain(error);
  });
  const buffers = parseBufferInfo(text);
  return {
    source: 'debugfs',
    buffers: new Map(buffers.map((buffer) => [buffer.inode, buffer])),
    commands: new Map(),
    unreadable: [],
  };
}
