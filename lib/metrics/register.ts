import {
  Counter,
  Gauge,
  register as globalRegistry,
  type Metric,
  type Registry,
  type RegistryContentType,
} from 'prom-client';
import { checkInteger, invalidType, isObject, outOfRange, readOptions } from '../check.js';
import { DmaBufError } from '../errors.js';
import type { Snapshot } from '../inspect/model.js';
import { checkSnapshotOptions, optionNames, type SnapshotOptions } from '../inspect/options.js';
import { snapshot } from '../inspect/snapshot.js';
import { type Family, families, type Sample, toFigures } from './families.js';

/** The registry for the metrics, and what they measure. */
export interface MetricsOptions extends Omit<SnapshotOptions, 'devices'> {
  /** The registry; by default the global one of the prom-client that this package loads. */
  register?: Registry<RegistryContentType> | undefined;
  /** The start of every metric's name; `'dmabuf_'` by default. */
  prefix?: string | undefined;
  /**
   * How many processes have their own series: those with the largest share (pss). The others are added up with the
   * labels `pid="other"` and `command="other"`. 20 by default.
   */
  processes?: number | undefined;
  /** Called with the error when a snapshot fails. If it throws, that is an uncaught exception. */
  onError?: ((error: unknown) => void) | undefined;
}

/** The metrics of one call of `registerMetrics()`. */
export interface DmaBufMetrics extends Disposable {
  /** Removes the metrics from the registry. */
  unregister(): void;
}

const metricsOptions: readonly string[] = [
  ...optionNames.filter((name) => name !== 'devices'),
  'register',
  'prefix',
  'processes',
  'onError',
];

const defaultProcesses = 20;

interface CheckedOptions {
  register: Registry<RegistryContentType>;
  prefix: string;
  processes: number;
  onError: ((error: unknown) => void) | undefined;
}

/** A registry of any copy of prom-client. */
function isRegistry(value: unknown): value is Registry<RegistryContentType> {
  const methods = ['registerMetric', 'getSingleMetric', 'removeSingleMetric'] as const;
  return isObject(value) && methods.every((name) => typeof (value as Registry)[name] === 'function');
}

function checkMetricsOptions(options: MetricsOptions): CheckedOptions {
  const { register = globalRegistry, prefix = 'dmabuf_', processes = defaultProcesses, onError } = options;
  if (!isRegistry(register)) throw invalidType('option register', 'a Registry of prom-client', register);
  if (typeof prefix !== 'string') throw invalidType('option prefix', 'a string', prefix);
  if (!/^(?:[a-zA-Z_:][a-zA-Z0-9_:]*)?$/.test(prefix)) {
    throw outOfRange('option prefix', 'letters, digits, underscores and colons, with no digit first', prefix);
  }
  if (onError !== undefined && typeof onError !== 'function') {
    throw invalidType('option onError', 'a function', onError);
  }
  return {
    register,
    prefix,
    processes: checkInteger(processes, 'option processes', 0, 2 ** 31 - 1),
    onError,
  };
}

const successFamily: Omit<Family, 'samples'> = {
  name: 'scrape_success',
  help: 'Whether the snapshot of this scrape was taken: 1, or 0 when the figures are missing.',
  labelNames: [],
  aggregator: 'min',
};

const durationFamily: Omit<Family, 'samples'> = {
  name: 'scrape_duration_seconds',
  help: 'Time that the snapshot of this scrape took.',
  labelNames: [],
  aggregator: 'max',
};

const errorsFamily = { name: 'scrape_errors_total', help: 'Snapshots that have failed since the start.' };

/** Without labels, prom-client's own reset() would leave a 0 that was never measured. */
function fill(gauge: Gauge, samples: Iterable<Sample>): void {
  gauge.reset();
  gauge.remove({});
  for (const { labels, value } of samples) gauge.set(labels, value);
}

/** Throws before anything is registered. */
function checkNames(register: Registry<RegistryContentType>, names: readonly string[]): void {
  const taken = names.find((name) => register.getSingleMetric(name) !== undefined);
  if (taken === undefined) return;
  const code = 'ERR_DMABUF_METRIC_EXISTS';
  throw new DmaBufError(`${code}: the registry already has a metric '${taken}'`, {
    code,
    hint: 'Unregister it first, or choose another prefix',
  });
}

/** `registerMetrics()` with the function that takes snapshots as a parameter. */
export function registerMetricsOf(
  take: () => Promise<Snapshot>,
  options: MetricsOptions = {},
): DmaBufMetrics {
  const { register, prefix, processes, onError } = checkMetricsOptions(options);
  checkNames(
    register,
    [...families, successFamily, durationFamily, errorsFamily].map(({ name }) => prefix + name),
  );

  let scraping: Promise<void> | undefined;
  /** All metrics of a scrape are collected in one turn, and wait for the same snapshot. So do simultaneous scrapes. */
  const collect = (): Promise<void> => {
    scraping ??= scrapeAlone();
    return scraping;
  };
  const registered: [name: string, metric: Metric][] = [];
  const registers = [register as Registry];
  const gauge = ({ name, help, labelNames, aggregator }: Omit<Family, 'samples'>): Gauge => {
    const made = new Gauge({ name: prefix + name, help, labelNames, aggregator, registers, collect });
    registered.push([prefix + name, made]);
    return made;
  };
  const filled = families.map((family) => ({ gauge: gauge(family), samples: family.samples }));
  const success = gauge(successFamily);
  const duration = gauge(durationFamily);
  const errors = new Counter({ ...errorsFamily, name: prefix + errorsFamily.name, registers, collect });
  registered.push([prefix + errorsFamily.name, errors]);

  async function scrapeAlone(): Promise<void> {
    try {
      await scrape();
    } finally {
      scraping = undefined;
    }
  }

  async function scrape(): Promise<void> {
    const start = performance.now();
    try {
      const figures = toFigures(await take(), processes);
      for (const { gauge, samples } of filled) fill(gauge, samples(figures));
      success.set(1);
    } catch (error) {
      for (const { gauge } of filled) fill(gauge, []);
      success.set(0);
      errors.inc();
      if (onError !== undefined) queueMicrotask(() => onError(error));
    }
    duration.set((performance.now() - start) / 1000);
  }

  const unregister = (): void => {
    for (const [name, metric] of registered) {
      // A metric that other code has registered under the name since then stays.
      if (register.getSingleMetric(name) === metric) register.removeSingleMetric(name);
    }
  };
  return { unregister, [Symbol.dispose]: unregister };
}

/**
 * Adds gauges to a prom-client registry that show which dma-bufs exist, which exporters made them and which processes
 * hold them.
 *
 * Each scrape takes one `snapshot()`; simultaneous scrapes share it. When it fails, the scrape has no figures, a
 * counter of errors rises, and the registry's other metrics are not affected.
 *
 * ```js
 * registerMetrics({ register, pids: [process.pid] });
 * response.end(await register.metrics());
 * ```
 *
 * @throws DmaBufError `ERR_DMABUF_METRIC_EXISTS` when the registry already has a metric of one of the names
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; `ERR_INVALID_ARG_VALUE` for an option that does not exist
 * @throws RangeError `ERR_OUT_OF_RANGE`
 */
export function registerMetrics(options?: MetricsOptions): DmaBufMetrics {
  const { source, pids, pinned, ...rest } = readOptions(options, metricsOptions);
  const what = checkSnapshotOptions({ source, pids, pinned });
  return registerMetricsOf(() => snapshot(what), rest);
}
