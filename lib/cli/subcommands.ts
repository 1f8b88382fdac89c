import type { Command } from 'commander';

/** A subcommand; its file is loaded when it is used and not before. */
export interface Subcommand {
  name: string;
  summary: string;
  load: () => Promise<Command>;
}

/** In the order of the help. */
export const SUBCOMMANDS: readonly Subcommand[] = [
  {
    name: 'ls',
    summary: 'the dma-bufs of this machine, and who holds them',
    load: async () => (await import('./ls.js')).lsCommand(),
  },
  {
    name: 'ps',
    summary: 'the processes that hold dma-bufs, and how much',
    load: async () => (await import('./ps.js')).psCommand(),
  },
  {
    name: 'vm',
    summary: 'run a command on a real kernel in QEMU',
    load: async () => (await import('./vm.js')).vmCommand(),
  },
];
