#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';

/** A subcommand; its file is loaded when it is used and not before. */
interface Subcommand {
  name: string;
  summary: string;
  load: () => Promise<Command>;
}

const SUBCOMMANDS: readonly Subcommand[] = [
  {
    name: 'vm',
    summary: 'run a command on a real kernel in QEMU',
    load: async () => (await import('./vm.js')).vmCommand(),
  },
  {
    name: 'metrics',
    summary: 'serve figures to Prometheus',
    load: async () => (await import('./metrics.js')).metricsCommand(),
  },
];

const manifest = new URL('../../../package.json', import.meta.url);
const { version } = JSON.parse(readFileSync(manifest, 'utf8')) as { version: string };

const program = new Command('dmabuf')
  .description('Inspect Linux dma-bufs, and test with them on a real kernel')
  .version(version)
  .helpCommand(false)
  .enablePositionalOptions();

for (const { name, summary, load } of SUBCOMMANDS) {
  // Everything after the name is the subcommand's own business, --help included.
  program
    .command(name)
    .description(summary)
    .argument('[arguments...]')
    .helpOption(false)
    .allowUnknownOption()
    .passThroughOptions()
    .action(async (args: string[]) => {
      const subcommand = await load();
      await subcommand.parseAsync(args, { from: 'user' });
    });
}

try {
  await program.parseAsync();
} catch (error) {
  // commander has said what is wrong; this is the status that goes with it
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode;
}
