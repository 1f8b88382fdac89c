import { type Command, InvalidArgumentError, Option } from 'commander';
import { Registry } from 'prom-client';
import type { SnapshotSource } from '../inspect/snapshot.js';
import { registerMetrics } from '../metrics/register.js';
import {
  close,
  defaultPort,
  explainListen,
  type ListenAddress,
  listen,
  metricsServer,
  parseListen,
} from './metrics-server.js';
import { subcommand } from './options.js';

const HELP = `
Serves http://127.0.0.1:${defaultPort}/metrics in the format of Prometheus until SIGINT or SIGTERM. Each scrape looks at the
system anew. Whoever can connect learns the names of processes: it listens on loopback unless --listen says otherwise.
Exit status: 0; 2 on errors, such as a port that is taken.

Examples:
  dmabuf metrics                            http://127.0.0.1:${defaultPort}/metrics
  dmabuf metrics --listen unix:/run/dmabuf.sock
  dmabuf metrics --once --processes 5       print them once`;

interface Flags {
  listen: ListenAddress;
  source?: SnapshotSource | 'auto';
  processes?: number;
  once?: boolean;
}

/** `dmabuf metrics` */
export function metricsCommand(): Command {
  return subcommand('metrics', 'Serves figures to Prometheus: who holds how much.', HELP)
    .addOption(
      new Option('--listen <where>', '[ADDRESS:]PORT or unix:PATH')
        .argParser(parseListen)
        .default(parseListen(String(defaultPort)), `127.0.0.1:${defaultPort}`),
    )
    .addOption(
      new Option(
        '--source <name>',
        'what to read: the best that is permitted (auto), or one source alone',
      ).choices(['auto', 'bpf', 'procfs', 'debugfs', 'sysfs']),
    )
    .option('--processes <n>', 'how many processes have series of their own (20)', count)
    .option('--once', 'print the metrics and end')
    .action(runMetrics);
}

async function runMetrics({ listen: address, once = false, source, processes }: Flags): Promise<void> {
  const register = new Registry();
  let last = '';
  registerMetrics({
    register,
    source,
    processes,
    onError(error) {
      const message = error instanceof Error ? error.message : String(error);
      // Every scrape may fail for the same reason.
      if (message !== last) say(message);
      last = message;
      if (once) process.exitCode = 2;
    },
  });
  if (once) await print(await register.metrics());
  else await serve(register, address);
}

async function serve(register: Registry, address: ListenAddress): Promise<void> {
  const server = metricsServer(register);
  let url: string;
  try {
    url = await listen(server, address);
  } catch (error) {
    say(explainListen(error as NodeJS.ErrnoException, address));
    process.exitCode = 2;
    return;
  }
  const ended = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
  say(`serving ${url}`);
  await ended;
  await close(server);
}

/** Ends quietly when nobody reads: `dmabuf metrics --once | head` is no mistake. */
async function print(text: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    process.stdout.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EPIPE' ? resolve() : reject(error),
    );
    process.stdout.write(text, (error) => error ?? resolve());
  });
}

function count(text: string): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(value)) throw new InvalidArgumentError('It must be a whole number from 0 to 999999999.');
  return value;
}

function say(message: string): void {
  process.stderr.write(`dmabuf metrics: ${message}\n`);
}
