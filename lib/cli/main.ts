#!/usr/bin/env node
import { constants } from 'node:os';
import { endBySignal } from './ending.js';
import { SUBCOMMANDS } from './subcommands.js';

const words = process.argv.slice(2);
// It ends the options that come before the subcommand: there are none.
if (words[0] === '--') words.shift();
const [name = '', ...args] = words;
const subcommand = SUBCOMMANDS.find((known) => known.name === name);

/** `dmabuf ls | head` is not a mistake, and a terminal may disappear (EIO); a full disk is an ordinary error. */
function endWithoutOutput(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(128 + constants.signals.SIGPIPE);
  if (error.code === 'EIO') endBySignal('SIGHUP');
  const about = subcommand === undefined ? '' : ` ${name}`;
  process.stderr.write(`dmabuf${about}: ${error.message}\n`, () => process.exit(2));
}

/** Says what has failed: for a mistake of this program, which has no code, with its place. */
async function report(error: unknown): Promise<void> {
  const { code, message, stack, exitCode } = error as Error & { code?: unknown; exitCode?: number };
  // commander has said what is wrong
  if (typeof code === 'string' && code.startsWith('commander.')) {
    process.exitCode = exitCode === 1 ? 2 : (exitCode ?? 2);
    return;
  }
  process.exitCode = 2;
  if (typeof code !== 'string') {
    process.stderr.write(`${stack ?? String(error)}\n`);
    return;
  }
  const { note } = await import('./output.js');
  note(name, message);
}

process.stdout.on('error', endWithoutOutput);
// Nobody is left to read a message.
process.stderr.on('error', () => {});
try {
  if (subcommand !== undefined) await (await subcommand.load()).parseAsync(args, { from: 'user' });
  else await (await import('./program.js')).createProgram().parseAsync(words, { from: 'user' });
} catch (error) {
  await report(error);
}
