import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';
import { DmaBufError } from 'dmabuf';
import type { ProcessUsage, Snapshot } from 'dmabuf/inspect';
import { registerMetrics } from 'dmabuf/metrics';
import {
  AggregatorRegistry,
  Counter,
  Gauge,
  register as globalRegistry,
  type OpenMetricsContentType,
  Registry,
} from 'prom-client';
import { registerMetricsOf } from '../../lib/metrics/register.js';
import { testArguments } from '../support/argument-tests.js';
import { type BadValue, notOptions } from '../support/bad-values.js';
import { unsound } from '../support/expect.js';
import { parseExposition, type Sample, sampled, valuesBy } from '../support/exposition.js';
import { packageRoot } from '../support/programs.js';

const type = 'ERR_INVALID_ARG_TYPE';

const range = 'ERR_OUT_OF_RANGE';

function process(pid: number, pss: number, more: Partial<ProcessUsage> = {}): ProcessUsage {
  return { pid, command: `process-${pid}`, buffers: 1, fds: 1, mappings: 0, rss: pss, pss, ...more };
}

function made(parts: Partial<Snapshot> = {}): Snapshot {
  return {
    time: new Date(0),
    source: ['procfs'],
    buffers: [],
    processes: [],
    exporters: [],
    total: { buffers: 0, size: 0 },
    unreadable: [],
    attempts: [],
    ...parts,
  };
}

async function scrape(register: Registry): Promise<Sample[]> {
  return parseExposition(await register.metrics());
}

describe('the options of registerMetrics()', () => {
  const register = new Registry();
  const option = (key: string, bad: readonly BadValue[]) => ({
    argument: `registerMetrics, option ${key},`,
    bad,
    call: (value: unknown) => registerMetrics(unsound({ register, [key]: value })),
  });
  testArguments(test, [
    {
      argument: 'registerMetrics, options,',
      bad: notOptions,
      call: (value) => registerMetrics(unsound(value)),
    },
    option('register', [
      ['null', null, type],
      ['a string', 'register', type],
      ['an object', {}, type],
      ['the class', Registry, type],
    ]),
    option('prefix', [
      ['null', null, type],
      ['a number', 1, type],
      ['a digit first', '1_', range],
      ['a hyphen', 'dma-buf_', range],
      ['a newline', 'dmabuf_\n', range],
      ['a brace', 'dmabuf{', range],
    ]),
    option('processes', [
      ['null', null, type],
      ['a string', '5', type],
      ['-1', -1, range],
      ['a fraction', 0.5, range],
      ['Infinity', Number.POSITIVE_INFINITY, range],
    ]),
    option('onError', [
      ['null', null, type],
      ['a string', 'throw', type],
    ]),
    option('source', [
      ['null', null, type],
      ['an array', ['bpf'], type],
      ['an unknown word', 'sysctl', range],
    ]),
    option('pids', [
      ['null', null, type],
      ['a number', 1, type],
      ['an array with a string', ['1'], type],
      ['an array with 0', [0], range],
    ]),
    option('pinned', [
      ['a number', 1, type],
      ['the empty string', '', range],
    ]),
  ]);

  test('what is refused registers nothing', () => {
    assert.equal(register.getMetricsAsArray().length, 0);
  });
});

describe('a scrape', () => {
  test('takes one snapshot for all its metrics, and a new one the next time', async () => {
    const register = new Registry();
    let snapshots = 0;
    registerMetricsOf(async () => made({ total: { buffers: ++snapshots, size: 0 } }), { register });
    assert.equal(sampled(await scrape(register), 'dmabuf_total_buffers'), 1);
    assert.equal(sampled(await scrape(register), 'dmabuf_total_buffers'), 2);
    await register.getMetricsAsJSON();
    assert.equal(snapshots, 3);
  });

  test('that comes while another one waits for its snapshot shares it', async () => {
    const register = new Registry();
    let snapshots = 0;
    let arrive = (_snapshot: Snapshot): void => {};
    const arrival = new Promise<Snapshot>((resolve) => {
      arrive = resolve;
    });
    const take = (): Promise<Snapshot> => {
      snapshots++;
      return arrival;
    };
    registerMetricsOf(take, { register });
    const first = scrape(register);
    await new Promise((resolve) => setImmediate(resolve));
    const second = scrape(register);
    arrive(made({ total: { buffers: 7, size: 7 } }));
    for (const samples of await Promise.all([first, second])) {
      assert.equal(sampled(samples, 'dmabuf_total_buffers'), 7);
    }
    assert.equal(snapshots, 1);
  });

  test('shows what the snapshot says', async () => {
    const register = new Registry();
    const snapshot = made({
      source: ['debugfs', 'procfs'],
      buffers: [{ inode: 1, size: 4096, sizeIsLowerBound: true, holders: [] }],
      total: { buffers: 9, size: 9000 },
      exporters: [
        { exporter: 'system', buffers: 8, size: 8000 },
        { exporter: '', buffers: 1, size: 1000 },
      ],
      processes: [process(12, 2000.5, { command: 'camera', buffers: 2, fds: 3, mappings: 4, rss: 5000 })],
      unaccounted: { buffers: 5, size: 500 },
      unreadable: [{ pid: 1, error: 'EACCES', what: 'both' }],
      attempts: [{ source: 'bpf', error: new DmaBufError('EPERM', { code: 'EPERM' }) }],
    });
    registerMetricsOf(async () => snapshot, { register });
    const samples = await scrape(register);
    const values = Object.fromEntries(
      samples.map(({ name, labels, value }) => [`${name} ${Object.values(labels).join(' ')}`.trim(), value]),
    );
    const { dmabuf_scrape_duration_seconds: duration, ...figures } = values;
    assert.ok(duration !== undefined && duration >= 0);
    assert.deepEqual(figures, {
      dmabuf_total_bytes: 9000,
      dmabuf_total_buffers: 9,
      'dmabuf_exporter_bytes system': 8000,
      'dmabuf_exporter_bytes unknown': 1000,
      'dmabuf_exporter_buffers system': 8,
      'dmabuf_exporter_buffers unknown': 1,
      'dmabuf_process_rss_bytes 12 camera': 5000,
      'dmabuf_process_pss_bytes 12 camera': 2000.5,
      'dmabuf_process_buffers 12 camera': 2,
      'dmabuf_process_fds 12 camera': 3,
      'dmabuf_process_mappings 12 camera': 4,
      dmabuf_processes: 1,
      dmabuf_unaccounted_bytes: 500,
      dmabuf_unaccounted_buffers: 5,
      dmabuf_inexact_buffers: 1,
      dmabuf_unreadable_processes: 1,
      'dmabuf_source_info debugfs': 1,
      'dmabuf_source_info procfs': 1,
      'dmabuf_source_failures bpf': 1,
      dmabuf_scrape_success: 1,
      dmabuf_scrape_errors_total: 0,
    });
  });

  test('has nothing of what the last one had and this snapshot has not', async () => {
    const register = new Registry();
    const snapshots = [
      made({
        processes: [process(1, 10)],
        exporters: [{ exporter: 'system', buffers: 1, size: 10 }],
        unaccounted: { buffers: 1, size: 1 },
      }),
      made({ processes: [process(2, 20)], exporters: [{ exporter: 'udmabuf', buffers: 1, size: 20 }] }),
    ];
    registerMetricsOf(async () => snapshots.shift() as Snapshot, { register });
    await scrape(register);
    const samples = await scrape(register);
    assert.deepEqual(valuesBy(samples, 'dmabuf_process_pss_bytes', 'pid'), { 2: 20 });
    assert.deepEqual(valuesBy(samples, 'dmabuf_exporter_bytes', 'exporter'), { udmabuf: 20 });
    assert.equal(sampled(samples, 'dmabuf_unaccounted_bytes'), undefined);
    assert.equal(sampled(samples, 'dmabuf_unaccounted_buffers'), undefined);
  });

  test('names the processes with the largest shares, and sums up the others', async () => {
    const register = new Registry();
    const processes = [process(1, 5), process(2, 50), process(3, 7, { fds: 4 }), process(4, 60)];
    registerMetricsOf(async () => made({ processes }), { register, processes: 2 });
    const samples = await scrape(register);
    assert.deepEqual(valuesBy(samples, 'dmabuf_process_pss_bytes', 'pid'), { 2: 50, 4: 60, other: 12 });
    assert.deepEqual(valuesBy(samples, 'dmabuf_process_fds', 'command'), {
      'process-2': 1,
      'process-4': 1,
      other: 5,
    });
    assert.equal(sampled(samples, 'dmabuf_processes'), 4);
  });

  test('has one series for all processes when none may have its own', async () => {
    const register = new Registry();
    registerMetricsOf(async () => made({ processes: [process(1, 5), process(2, 6)] }), {
      register,
      processes: 0,
    });
    assert.deepEqual(valuesBy(await scrape(register), 'dmabuf_process_pss_bytes', 'pid'), { other: 11 });
  });

  test('looks at the system this runs on', async () => {
    const register = new Registry();
    registerMetrics({ register, pids: [globalThis.process.pid], source: 'procfs' });
    const samples = await scrape(register);
    assert.equal(sampled(samples, 'dmabuf_scrape_success'), 1);
    assert.deepEqual(valuesBy(samples, 'dmabuf_source_info', 'source'), { procfs: 1 });
  });
});

describe('text of other people’s in labels', () => {
  const hostile = [
    'plain',
    '"} 1\ndmabuf_total_bytes 666',
    'quote" backslash\\ newline\n',
    'ends in a backslash\\',
    '\\',
    '\\n',
    ',pid="1"',
    'x,pid:2',
    '\u0000\u0001\u0007\b\t\r\u001b[2J\u007f\u009b',
    '\u2028\u2029\u202e\u2066',
    'no UTF-8: \ufffd\ud800',
    '\udc00\ud83d',
    'größe 映像 🎞',
    '# HELP x y',
    '__proto__',
    'constructor',
    ' ',
  ];
  const visible = (text: string): string =>
    text.replace(/[\p{Cc}\p{Cs}\u2028\u2029\u202e\u2066]/gu, '\ufffd');

  test('a scrape with hostile commands parses, and each is the label of its process', async () => {
    const register = new Registry();
    const processes = hostile.map((command, index) => process(index + 1, index, { command }));
    registerMetricsOf(async () => made({ processes, total: { buffers: 1, size: 1 } }), {
      register,
      processes: 1000,
    });
    const text = Buffer.from(await register.metrics()).toString('utf8');
    const samples = parseExposition(text);
    for (const { pid, command, pss } of processes) {
      const labels = { pid: String(pid), command: visible(command) };
      assert.equal(sampled(samples, 'dmabuf_process_pss_bytes', labels), pss, JSON.stringify(command));
    }
    assert.equal(sampled(samples, 'dmabuf_total_bytes'), 1);
    assert.doesNotMatch(text, /[^\P{Cc}\n]|[\u202a-\u202e\u2066-\u2069]/u);
  });

  test('a scrape with hostile exporters parses, and loses none of their bytes', async () => {
    const register = new Registry();
    const exporters = hostile.map((exporter, index) => ({ exporter, buffers: 1, size: 2 ** index }));
    registerMetricsOf(async () => made({ exporters }), { register });
    const values = valuesBy(await scrape(register), 'dmabuf_exporter_bytes', 'exporter');
    assert.equal(
      Object.values(values).reduce((sum, value) => sum + value),
      2 ** hostile.length - 1,
    );
    assert.equal(values.plain, 1);
  });

  test('exporters that look the same in a label are summed up', async () => {
    const register = new Registry();
    const exporters = ['a\u0001', 'a\u0002', '', 'unknown'].map((exporter) => ({
      exporter,
      buffers: 1,
      size: 3,
    }));
    registerMetricsOf(async () => made({ exporters }), { register });
    const values = valuesBy(await scrape(register), 'dmabuf_exporter_bytes', 'exporter');
    assert.deepEqual(values, { 'a\ufffd': 6, unknown: 6 });
  });
});

describe('a snapshot that fails', () => {
  const failure = new DmaBufError('EPERM: not today', { code: 'EPERM' });

  test('costs the scrape its figures, and no other metric; the counter of errors rises', async () => {
    const register = new Registry();
    const requests = new Counter({ name: 'requests_total', help: 'Requests.', registers: [register] });
    requests.inc(3);
    const results: (() => Snapshot)[] = [
      () => made({ processes: [process(1, 1)], total: { buffers: 1, size: 1 } }),
      () => {
        throw failure;
      },
      () => made({ total: { buffers: 2, size: 2 } }),
    ];
    registerMetricsOf(async () => (results.shift() as () => Snapshot)(), { register });
    await scrape(register);

    const failed = await scrape(register);
    assert.deepEqual(
      failed.map(({ name }) => name),
      [
        'requests_total',
        'dmabuf_scrape_success',
        'dmabuf_scrape_duration_seconds',
        'dmabuf_scrape_errors_total',
      ],
    );
    assert.equal(sampled(failed, 'requests_total'), 3);
    assert.equal(sampled(failed, 'dmabuf_scrape_success'), 0);
    assert.equal(sampled(failed, 'dmabuf_scrape_errors_total'), 1);

    const next = await scrape(register);
    assert.equal(sampled(next, 'dmabuf_total_bytes'), 2);
    assert.equal(sampled(next, 'dmabuf_scrape_success'), 1);
    assert.equal(sampled(next, 'dmabuf_scrape_errors_total'), 1);
  });

  test('that throws at once is no different', async () => {
    const register = new Registry();
    const take = (): Promise<Snapshot> => {
      throw failure;
    };
    registerMetricsOf(take, { register });
    assert.equal(sampled(await scrape(register), 'dmabuf_scrape_errors_total'), 1);
  });

  test('is told to onError, once for each', async () => {
    const register = new Registry();
    const told: unknown[] = [];
    registerMetricsOf(() => Promise.reject(failure), { register, onError: (error) => told.push(error) });
    await Promise.all([scrape(register), scrape(register)]);
    await scrape(register);
    assert.deepEqual(told, [failure, failure]);
  });

  test('by a source that this kernel lacks is counted, too', async () => {
    const register = new Registry();
    const told: unknown[] = [];
    const options = { register, pinned: '/nonexistent', onError: (error: unknown) => told.push(error) };
    // Removed from the kernel; older kernels still have it.
    registerMetrics({ ...options, source: 'sysfs' });
    const samples = await scrape(register);
    assert.equal(sampled(samples, 'dmabuf_scrape_errors_total'), told.length);
    assert.equal(sampled(samples, 'dmabuf_scrape_success'), 1 - told.length);
  });
});

describe('a registry', () => {
  test('of the user’s own gets the metrics, and the global one does not', () => {
    const register = new Registry();
    using _metrics = registerMetricsOf(async () => made(), { register });
    assert.ok(register.getSingleMetric('dmabuf_total_bytes') instanceof Gauge);
    assert.equal(globalRegistry.getSingleMetric('dmabuf_total_bytes'), undefined);
  });

  test('is the global one by default', () => {
    const metrics = registerMetrics();
    assert.ok(globalRegistry.getSingleMetric('dmabuf_total_bytes') instanceof Gauge);
    metrics.unregister();
    assert.equal(globalRegistry.getSingleMetric('dmabuf_total_bytes'), undefined);
  });

  test('with labels of its own, or in the format of OpenMetrics, serves the metrics', async () => {
    const register = new Registry<OpenMetricsContentType>();
    register.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
    register.setDefaultLabels({ host: 'one' });
    const metrics = registerMetricsOf(async () => made({ processes: [process(1, 1)] }), { register });
    const text = await register.metrics();
    assert.match(text, /^dmabuf_process_fds\{pid="1",command="process-1",host="one"\} 1$/m);
    assert.match(text, /^dmabuf_scrape_errors_total\{host="one"\} 0$/m);
    metrics.unregister();
    assert.equal(register.getMetricsAsArray().length, 0);
  });

  test('with the names taken is refused as a whole; another prefix is not', async () => {
    const register = new Registry();
    registerMetricsOf(async () => made(), { register });
    const before = register.getMetricsAsArray().length;
    assert.throws(() => registerMetricsOf(async () => made(), { register }), {
      name: 'DmaBufError',
      code: 'ERR_DMABUF_METRIC_EXISTS',
      message: /'dmabuf_total_bytes'/,
    });
    assert.equal(register.getMetricsAsArray().length, before);
    registerMetricsOf(async () => made({ total: { buffers: 3, size: 0 } }), { register, prefix: 'gpu_' });
    const samples = await scrape(register);
    assert.equal(sampled(samples, 'gpu_total_buffers'), 3);
    assert.equal(sampled(samples, 'dmabuf_total_buffers'), 0);
  });

  test('loses the metrics, and nothing else, by unregister(), as often as it is called', async () => {
    const register = new Registry();
    const other = new Gauge({ name: 'other', help: 'Other.', registers: [register] });
    const metrics = registerMetricsOf(async () => made(), { register });
    metrics.unregister();
    assert.deepEqual(register.getMetricsAsArray(), [other]);
    registerMetricsOf(async () => made(), { register });
    metrics.unregister();
    assert.ok(register.getSingleMetric('dmabuf_total_bytes') !== undefined);
  });

  test('that a cluster aggregates has the figures of one worker, and the errors of all', async () => {
    const workers = [new Registry(), new Registry()];
    for (const register of workers) {
      const results: unknown[] = [
        Promise.reject(new Error('not now')),
        made({ total: { buffers: 2, size: 10 } }),
      ];
      registerMetricsOf(async () => results.shift() as Snapshot, { register });
      await register.metrics();
    }
    const all = await Promise.all(workers.map((register) => register.getMetricsAsJSON()));
    const samples = parseExposition(await AggregatorRegistry.aggregate(all).metrics());
    assert.equal(sampled(samples, 'dmabuf_total_bytes'), 10);
    assert.equal(sampled(samples, 'dmabuf_scrape_errors_total'), 2);
  });

  test('of a second copy of prom-client works', async () => {
    const require = createRequire(import.meta.url);
    const first = require('prom-client') as typeof import('prom-client');
    const cached = Object.keys(require.cache).filter((file) => file.includes('/prom-client/'));
    const kept = cached.map((file) => [file, require.cache[file]] as const);
    for (const file of cached) delete require.cache[file];
    const second = require('prom-client') as typeof first;
    for (const [file, module] of kept) require.cache[file] = module;
    assert.notEqual(second.Registry, first.Registry);
    const register = new second.Registry();
    registerMetricsOf(async () => made({ total: { buffers: 4, size: 4 } }), { register });
    assert.equal(sampled(await scrape(register), 'dmabuf_total_buffers'), 4);
  });
});

test("require('dmabuf/metrics') gives the same function as import", () => {
  const required = createRequire(import.meta.url)('dmabuf/metrics') as { registerMetrics: unknown };
  assert.equal(required.registerMetrics, registerMetrics);
});

test('only dmabuf/metrics loads prom-client', () => {
  const loaded = (entry: string): boolean => {
    const script = `import '${entry}'; import { createRequire } from 'node:module';
      console.log(Object.keys(createRequire(import.meta.url)('node:module')._cache).some((f) => f.includes('/prom-client/')))`;
    const { FORCE_COLOR, ...env } = globalThis.process.env;
    const options = { cwd: packageRoot, encoding: 'utf8', env } as const;
    return (
      execFileSync(globalThis.process.execPath, ['--input-type=module', '-e', script], options).trim() ===
      'true'
    );
  };
  assert.deepEqual(['dmabuf', 'dmabuf/frame', 'dmabuf/inspect', 'dmabuf/vm', 'dmabuf/metrics'].map(loaded), [
    false,
    false,
    false,
    false,
    true,
  ]);
});
