#!/usr/bin/env node
import { constants } from 'node:os';
import { SUBCOMMANDS } from './subcommands.js';

const [name = '', ...args] = process.argv.slice(2);
const subcommand = SUBCOMMANDS.find((known) => known.name === name);

/** `dmabuf ls | head` is no mistake, and a terminal may go away (EIO). */
function endOnClosedPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
  process.exit(128 + constants.signals.SIGPIPE);
}

/** The status of an error that the user can do something about; undefined for a mistake of this program. */
function statusOf(error: unknown): number | undefined {
  const { name, code = '', exitCode } = error as { name?: string; code?: string; exitCode?: number };
  // commander has said what is wrong
  if (code.startsWith('commander.')) return exitCode === 1 ? 2 : exitCode;
  const isExpected = name === 'DmaBufError' || code === 'ERR_INVALID_ARG_TYPE' || code === 'ERR_OUT_OF_RANGE';
  return isExpected ? 2 : undefined;
}

async function report(error: unknown): Promise<void> {
  const status = statusOf(error);
  if (status === undefined) throw error;
  process.exitCode = status;
  const { code, message } = error as Error & { code: string };
  if (code.startsWith('commander.')) return;
  const { note } = await import('./output.js');
  note(name, message);
}

// `vm` looks after its own pipe: it has a guest to end.
if (name !== 'vm') process.stdout.on('error', endOnClosedPipe);
try {
  if (subcommand !== undefined) await (await subcommand.load()).parseAsync(args, { from: 'user' });
  else await (await import('./program.js')).createProgram().parseAsync();
} catch (error) {
  await report(error);
}
