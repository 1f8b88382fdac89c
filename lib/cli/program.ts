import { createRequire } from 'node:module';
import { Command } from 'commander';
import { safeErrors } from './options.js';
import { SUBCOMMANDS } from './subcommands.js';

const HELP = `
Exit status: 0; 1 when the answer is no (nothing matches, something essential does not work); 2 on errors.

Examples:
  dmabuf doctor             does this machine have dma-bufs, and may I use them?
  dmabuf ps                 who holds how much?
  dmabuf ls --min-size 1M   which buffers are large?
  dmabuf diff -- npm test   does it leave buffers behind?

dmabuf COMMAND --help explains each command; the manual is man dmabuf.`;

/** The command without a subcommand: help, version, and errors. main.ts runs the subcommands. */
export function createProgram(): Command {
  const { version } = createRequire(import.meta.url)('dmabuf/package.json') as { version: string };
  const program = safeErrors(new Command('dmabuf'))
    .description('Inspect Linux dma-bufs, and test with them on a real kernel')
    .version(version)
    .helpCommand(false)
    .exitOverride()
    .addHelpText('after', HELP);
  for (const { name, summary } of SUBCOMMANDS) program.command(name).description(summary);
  return program;
}
