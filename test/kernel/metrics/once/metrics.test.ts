// Figures for Prometheus: of real buffers, by the library and by the command.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { allocateSync } from 'dmabuf';
import { type Snapshot, snapshot } from 'dmabuf/inspect';
import { registerMetrics } from 'dmabuf/metrics';
import { Registry } from 'prom-client';
import { parseExposition, type Sample, sampled, valuesBy } from '../../../support/exposition.js';
import { kernelTest } from '../../../support/kernel-test.js';
import { endOf, get, holder, metricsCommand, serving } from '../../../support/metrics-command.js';
import type { Service } from '../../../support/services.js';

const nobody = { uid: 65_534, gid: 65_534 };
/** What the hostile program is called in a label: what no terminal should get is replaced, and so is half a character. */
const hostileCommand = 'x"\\\ufffd{}\ufffd[2J=,-a\ufffd';

async function scrape(register: Registry): Promise<Sample[]> {
  return parseExposition(await register.metrics());
}

/** Asserts that a scrape says the same as a snapshot. */
function assertAgrees(samples: readonly Sample[], taken: Snapshot): void {
  assert.equal(sampled(samples, 'dmabuf_total_bytes'), taken.total.size);
  assert.equal(sampled(samples, 'dmabuf_total_buffers'), taken.total.buffers);
  assert.equal(sampled(samples, 'dmabuf_unaccounted_bytes'), taken.unaccounted?.size);
  assert.equal(sampled(samples, 'dmabuf_unaccounted_buffers'), taken.unaccounted?.buffers);
  assert.equal(sampled(samples, 'dmabuf_unreadable_processes'), taken.unreadable.length);
  assert.equal(sampled(samples, 'dmabuf_processes'), taken.processes.length);
  const by = <T>(items: readonly T[], key: keyof T, value: keyof T): Record<string, unknown> =>
    Object.fromEntries(items.map((item) => [String(item[key]), item[value]]));
  const { exporters, processes } = taken;
  assert.deepEqual(valuesBy(samples, 'dmabuf_exporter_bytes', 'exporter'), by(exporters, 'exporter', 'size'));
  assert.deepEqual(
    valuesBy(samples, 'dmabuf_exporter_buffers', 'exporter'),
    by(exporters, 'exporter', 'buffers'),
  );
  for (const [metric, key] of [
    ['rss_bytes', 'rss'],
    ['pss_bytes', 'pss'],
    ['buffers', 'buffers'],
    ['fds', 'fds'],
    ['mappings', 'mappings'],
  ] as const) {
    const values = valuesBy(samples, `dmabuf_process_${metric}`, 'pid');
    assert.deepEqual(values, by(processes, 'pid', key), metric);
  }
  assert.deepEqual(
    samples.filter(({ name }) => name === 'dmabuf_source_info').map(({ labels }) => labels.source),
    taken.source,
  );
}

for (const source of ['auto', 'procfs'] as const) {
  kernelTest(`the figures of a scrape are those of a snapshot (${source})`, async (t) => {
    const child = await holder(t);
    const pids = [process.pid, child.pid];
    const register = new Registry();
    registerMetrics({ register, pids, source });
    using _first = allocateSync(4096);
    using second = allocateSync(1 << 20, { from: 'udmabuf' });
    using mapped = allocateSync(1 << 16);
    using _mapping = mapped.map();
    using _copy = second.dup();
    const samples = await scrape(register);
    const taken = await snapshot({ pids, source });
    assert.equal(taken.total.size, 4096 + (1 << 20) + (1 << 16) + 8192);
    assertAgrees(samples, taken);
    await endOf(child);
  });
}

kernelTest('a scrape without pids has what every process holds', async (t) => {
  const child = await holder(t);
  const register = new Registry();
  registerMetrics({ register, processes: 1000 });
  using _own = allocateSync(1 << 20);
  const samples = await scrape(register);
  const bytes = valuesBy(samples, 'dmabuf_process_rss_bytes', 'pid');
  assert.equal(bytes[child.pid], 8192);
  assert.ok((bytes[process.pid] ?? 0) >= 1 << 20);
  assert.ok((sampled(samples, 'dmabuf_total_bytes') ?? 0) >= 8192 + (1 << 20));
  assert.ok((sampled(samples, 'dmabuf_unaccounted_bytes') ?? -1) >= 0);
  await endOf(child);
});

kernelTest('buffers and processes that vanish vanish from the scrape', async (t) => {
  const child = await holder(t);
  const register = new Registry();
  registerMetrics({ register, pids: [process.pid, child.pid], source: 'procfs' });
  const own = allocateSync(4096, { from: 'udmabuf' });
  const before = await scrape(register);
  assert.deepEqual(valuesBy(before, 'dmabuf_exporter_bytes', 'exporter'), { udmabuf: 4096, system: 8192 });
  own.close();
  const between = await scrape(register);
  assert.deepEqual(valuesBy(between, 'dmabuf_exporter_bytes', 'exporter'), { system: 8192 });
  assert.deepEqual(valuesBy(between, 'dmabuf_process_rss_bytes', 'pid'), { [child.pid]: 8192 });
  await endOf(child);
  const after = await scrape(register);
  assert.deepEqual(
    after.filter(({ name }) => name.startsWith('dmabuf_process_') || name.startsWith('dmabuf_exporter_')),
    [],
  );
  assert.equal(sampled(after, 'dmabuf_total_bytes'), 0);
});

kernelTest('a process with a hostile name is in the scrape, by every source', async (t) => {
  const child = await holder(t, 'hostile-command');
  for (const source of ['auto', 'procfs'] as const) {
    const register = new Registry();
    registerMetrics({ register, source, pids: [child.pid] });
    const [sample] = (await scrape(register)).filter(({ name }) => name === 'dmabuf_process_rss_bytes');
    const labels = { pid: String(child.pid), command: hostileCommand };
    assert.deepEqual(sample, { name: 'dmabuf_process_rss_bytes', labels, value: 12_288 });
  }
  await endOf(child);
});

kernelTest('dmabuf metrics serves on loopback what processes hold, anew for each scrape', async (t) => {
  const url = 'http://127.0.0.1:19189';
  await using service = metricsCommand([]);
  await service.says(/serving/);
  const child = await holder(t);
  const metric = 'dmabuf_process_rss_bytes';
  assert.equal(sampled(await get(`${url}/metrics`), metric, { pid: String(child.pid) }), 8192);
  await endOf(child);
  assert.equal(sampled(await get(`${url}/metrics?again`), metric, { pid: String(child.pid) }), undefined);
  assert.equal(await service.end('SIGTERM'), 0);
  assert.deepEqual(service.said, [`dmabuf metrics: serving ${url}/metrics`]);
});

/** A command that ends by itself: how, and what it has said. */
async function outcome(service: Service): Promise<[number | string, ...string[]]> {
  return [await service.ended, ...service.said];
}

kernelTest('dmabuf metrics says in one line why it may not listen', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  assert.deepEqual(await outcome(metricsCommand(['--listen', String(port)])), [
    2,
    `dmabuf metrics: cannot listen on 127.0.0.1:${port}: EADDRINUSE. Another program listens there; choose another port with --listen.`,
  ]);
  taken.close();
  assert.deepEqual(await outcome(metricsCommand(['--listen', '80'], nobody)), [
    2,
    'dmabuf metrics: cannot listen on 127.0.0.1:80: EACCES. Ports below 1024 are for root.',
  ]);
});

kernelTest('dmabuf metrics --once prints a scrape and ends', async (t) => {
  const child = await holder(t);
  await using once = metricsCommand(['--once', '--processes', '1000']);
  assert.equal(await once.ended, 0);
  const samples = parseExposition(`${once.said.join('\n')}\n`);
  assert.equal(sampled(samples, 'dmabuf_process_rss_bytes', { pid: String(child.pid) }), 8192);
  await endOf(child);
});

kernelTest('an ordinary user is served what they may see, and how much that is not', async (t) => {
  const child = await holder(t);
  const [service, url] = await serving(['--processes', '1000'], nobody);
  await using _service = service;
  const samples = await get(`${url}/metrics`);
  assert.equal(sampled(samples, 'dmabuf_scrape_success'), 1);
  assert.equal(sampled(samples, 'dmabuf_process_rss_bytes', { pid: String(child.pid) }), undefined);
  assert.ok((sampled(samples, 'dmabuf_unreadable_processes') ?? 0) > 0);
  assert.equal(sampled(samples, 'dmabuf_unaccounted_bytes'), undefined);
  assert.deepEqual(valuesBy(samples, 'dmabuf_source_info', 'source'), { procfs: 1 });
  assert.ok((valuesBy(samples, 'dmabuf_source_failures', 'source').bpf ?? 0) > 0);
  assert.equal(await service.end('SIGTERM'), 0);
  await endOf(child);
});

kernelTest('a source that is refused leaves the server up, and is told once', async () => {
  const [service, url] = await serving(['--source', 'debugfs'], nobody);
  await using _service = service;
  for (const errors of [1, 2]) {
    const samples = await get(`${url}/metrics`);
    assert.equal(sampled(samples, 'dmabuf_scrape_success'), 0);
    assert.equal(sampled(samples, 'dmabuf_scrape_errors_total'), errors);
    assert.equal(sampled(samples, 'dmabuf_total_bytes'), undefined);
  }
  assert.equal(await service.end('SIGTERM'), 0);
  assert.equal(service.said.length, 2);
  assert.match(service.said[1] ?? '', /^dmabuf metrics: EACCES: .*bufinfo/);
  await using once = metricsCommand(['--once', '--source', 'debugfs'], nobody);
  assert.equal(await once.ended, 2);
});
