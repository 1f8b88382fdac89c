import type { Subcommand } from './options.js';

/** In the order of the help. */
export const SUBCOMMANDS: readonly Subcommand[] = [
  {
    name: 'heaps',
    summary: 'the sources of memory, and what is missing to use them',
    load: async () => (await import('./heaps.js')).heapsCommand(),
  },
  {
    name: 'ls',
    summary: 'the dma-bufs of this machine, and the processes that hold them',
    load: async () => (await import('./ls.js')).lsCommand(),
  },
  {
    name: 'ps',
    summary: 'the processes that hold dma-bufs, and how much they hold',
    load: async () => (await import('./ps.js')).psCommand(),
  },
  {
    name: 'show',
    summary: 'the dma-bufs of one process, or one descriptor',
    load: async () => (await import('./show.js')).showCommand(),
  },
  {
    name: 'top',
    summary: 'the same, live',
    load: async () => (await import('./top.js')).topCommand(),
  },
  {
    name: 'diff',
    summary: 'the dma-bufs that a command, or a period, has left behind',
    load: async () => (await import('./diff.js')).diffCommand(),
  },
  {
    name: 'doctor',
    summary: 'what works on this machine, and how to fix the rest',
    load: async () => (await import('./doctor.js')).doctorCommand(),
  },
  {
    name: 'pin',
    summary: 'let users without rights list all dma-bufs',
    load: async () => (await import('./pin.js')).pinCommand(),
  },
  {
    name: 'metrics',
    summary: 'serve metrics to Prometheus',
    load: async () => (await import('./metrics.js')).metricsCommand(),
  },
  {
    name: 'completion',
    summary: 'a completion script for bash, zsh or fish',
    load: async () => (await import('./completion.js')).completionCommand(SUBCOMMANDS),
  },
  {
    name: 'vm',
    summary: 'run a command on a real kernel in QEMU',
    load: async () => (await import('./vm.js')).vmCommand(),
  },
];
