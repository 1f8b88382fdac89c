import { type Command, InvalidArgumentError, Option } from 'commander';
import { Registry } from 'prom-client';
import type { SnapshotSource } from '../inspect/model.js';
import { registerMetrics } from '../metrics/register.js';
import { endBySignal } from './ending.js';
import { defaultPort, type ListenAddress, MetricsServer, parseHost, parseListen } from './metrics-server.js';
import { subcommand } from './options.js';
import { note } from './output.js';

const HELP = `
Serves http://127.0.0.1:${defaultPort}/metrics in the format of Prometheus until SIGINT or SIGTERM. Each scrape takes
a new snapshot. Every client that can connect sees the names of processes, so it listens on loopback unless --listen says
otherwise. The host of a request has to be localhost, a loopback address, the address that the request arrives at, or a
host of --allow-host.
Exit status: 0; 2 on errors, such as a port that is in use.

Examples:
  dmabuf metrics                            http://127.0.0.1:${defaultPort}/metrics
  dmabuf metrics --listen 0.0.0.0:${defaultPort} --allow-host camera-3.example
  dmabuf metrics --listen unix:/run/dmabuf.sock
  dmabuf metrics --once --processes 5       print the metrics once`;

/** Milliseconds that a snapshot may take after the server has closed. */
const patience = 500;

interface Flags {
  listen: ListenAddress;
  allowHost?: string[];
  source?: SnapshotSource | 'auto';
  processes?: number;
  once?: boolean;
}

/** `dmabuf metrics` */
export function metricsCommand(): Command {
  return subcommand('metrics', 'Serves metrics to Prometheus: which process holds how much.', HELP)
    .addOption(
      new Option('--listen <where>', '[ADDRESS:]PORT or unix:PATH')
        .argParser(parseListen)
        .default(parseListen(String(defaultPort)), `127.0.0.1:${defaultPort}`),
    )
    .option('--allow-host <name>', 'a host name that requests may use (repeatable)', parseHost)
    .addOption(
      new Option(
        '--source <name>',
        'what to read: the best permitted sources (auto), or one source alone',
      ).choices(['auto', 'bpf', 'procfs', 'debugfs', 'sysfs']),
    )
    .option('--processes <n>', 'how many processes have their own series (20)', count)
    .option('--once', 'print the metrics and end')
    .action(runMetrics);
}

async function runMetrics({ listen, allowHost = [], once = false, source, processes }: Flags): Promise<void> {
  const register = new Registry();
  let last = '';
  registerMetrics({
    register,
    source,
    processes,
    onError(error) {
      const message = error instanceof Error ? error.message : String(error);
      // Every scrape may fail for the same reason.
      if (message !== last) note('metrics', message);
      last = message;
      if (once) process.exitCode = 2;
    },
  });
  if (once) await print(await register.metrics());
  else await serve(new MetricsServer(register, allowHost), listen);
}

async function serve(server: MetricsServer, address: ListenAddress): Promise<void> {
  // The server must not end because its standard error is not read.
  process.stderr.on('error', () => {});
  let url: string;
  try {
    url = await server.listen(address);
  } catch (error) {
    note('metrics', (error as Error).message);
    process.exitCode = 2;
    return;
  }
  const ended = new Promise<NodeJS.Signals>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, resolve);
  });
  note('metrics', `serving ${url}`);
  const signal = await ended;
  await server.close();
  // A snapshot that is still being taken would keep the process, and process.exit() would wait for its thread as well.
  setTimeout(() => endBySignal(signal), patience).unref();
}

/** Resolves when it is written; the command reports a failure. */
async function print(text: string): Promise<void> {
  await new Promise<void>((resolve) => process.stdout.write(text, () => resolve()));
}

function count(text: string): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(value)) throw new InvalidArgumentError('It must be a whole number from 0 to 999999999.');
  return value;
}
