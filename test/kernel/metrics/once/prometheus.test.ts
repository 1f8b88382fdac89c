// A real Prometheus scrapes real buffers. DMABUF_PROMETHEUS: the path of its binary, beside which promtool is;
// scripts/test.mjs provides it.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Folder } from '../../../support/channels.js';
import { kernelTest } from '../../../support/kernel-test.js';
import { endOf, holder, serving } from '../../../support/metrics-command.js';
import { packageRoot } from '../../../support/programs.js';
import { Service } from '../../../support/services.js';

const binary = process.env.DMABUF_PROMETHEUS ?? '';
const unless =
  binary === '' && 'DMABUF_PROMETHEUS is not set; node scripts/prometheus.mjs prints a path for it';
const promtool = join(dirname(binary), 'promtool');
const unlessTool = unless || (existsSync(promtool) ? false : `there is no ${promtool}`);

/** One series of the answer to a query. */
interface Series {
  metric: Record<string, string>;
  value: [time: number, value: string];
}

/** Starts a Prometheus that scrapes the address each second; the URL of its API. */
async function startPrometheus(folder: Folder, address: string): Promise<[Service, string]> {
  const config = folder.file('prometheus.yml');
  writeFileSync(
    config,
    `global: { scrape_interval: 1s, scrape_timeout: 1s }
scrape_configs:
  - job_name: dmabuf
    static_configs: [{ targets: ['${address}'] }]
`,
  );
  const service = new Service(binary, [
    `--config.file=${config}`,
    `--storage.tsdb.path=${folder.file('data')}`,
    '--web.listen-address=127.0.0.1:0',
  ]);
  const listens = await service.says(/msg="Listening on" address=(\S+)/);
  await service.says(/Server is ready to receive web requests/);
  return [service, `http://${listens}/api/v1`];
}

async function ask<T>(url: string): Promise<T> {
  const response = await fetch(url);
  const { status, data } = (await response.json()) as { status: string; data: T };
  assert.equal(status, 'success', url);
  return data;
}

/** Asks until the answer is as expected: Prometheus does not announce that it has scraped. */
async function until<T>(url: string, isSo: (data: T) => boolean): Promise<T> {
  const deadline = Date.now() + 120_000;
  for (;;) {
    const data = await ask<T>(url);
    if (isSo(data)) return data;
    assert.ok(Date.now() < deadline, `${url} still says ${JSON.stringify(data)}`);
    await pause(250);
  }
}

function series(api: string, query: string, isSo: (found: Series[]) => boolean): Promise<Series[]> {
  const url = `${api}/query?query=${encodeURIComponent(query)}`;
  return until<{ result: Series[] }>(url, ({ result }) => isSo(result)).then(({ result }) => result);
}

kernelTest(
  'Prometheus scrapes what processes hold, and forgets what has vanished',
  async (t) => {
    using folder = new Folder();
    const [exporter, url] = await serving(['--processes', '1000']);
    await using _exporter = exporter;
    const child = await holder(t);
    const hostile = await holder(t, 'hostile-command');
    const [prometheus, api] = await startPrometheus(folder, new URL(url).host);
    await using _prometheus = prometheus;

    const [held] = await series(
      api,
      `dmabuf_process_rss_bytes{pid="${child.pid}"}`,
      ({ length }) => length > 0,
    );
    assert.equal(held?.value[1], '8192');
    const [total] = await series(api, 'dmabuf_total_bytes', ({ length }) => length > 0);
    assert.ok(Number(total?.value[1]) >= 8192 + 12_288);
    const [named] = await series(
      api,
      `dmabuf_process_rss_bytes{pid="${hostile.pid}"}`,
      ({ length }) => length > 0,
    );
    assert.equal(named?.value[1], '12288');
    assert.equal(named?.metric.command, 'x"\\\ufffd{}\ufffd[2J=,-a\ufffd');
    await series(api, 'up', ([up]) => up?.value[1] === '1');
    await until<{ activeTargets: { health: string }[] }>(
      `${api}/targets`,
      ({ activeTargets }) => activeTargets[0]?.health === 'up',
    );

    await endOf(child);
    await series(api, `dmabuf_process_rss_bytes{pid="${child.pid}"}`, ({ length }) => length === 0);
    assert.equal(await prometheus.end('SIGTERM'), 0);
    assert.equal(await exporter.end('SIGTERM'), 0);
  },
  unless,
);

function runPromtool(args: readonly string[], input?: string): void {
  const { status, stdout, stderr } = spawnSync(promtool, args, { input, encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
}

kernelTest(
  'promtool finds nothing wrong with the names and texts of the metrics',
  async (t) => {
    const [exporter, url] = await serving(['--processes', '1000']);
    await using _exporter = exporter;
    await holder(t, 'hostile-command');
    runPromtool(['check', 'metrics'], await (await fetch(`${url}/metrics`)).text());
  },
  unlessTool,
);

kernelTest(
  'promtool takes the configuration and the alerts of the guide',
  () => {
    using folder = new Folder();
    const guide = readFileSync(join(packageRoot, 'docs/metrics.md'), 'utf8');
    const blocks = [...guide.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, block = '']) => block);
    for (const [kind, key] of [
      ['config', 'scrape_configs:'],
      ['rules', 'groups:'],
    ] as const) {
      const block = blocks.find((text) => text.startsWith(key));
      assert.ok(block !== undefined, `the guide has no ${kind}`);
      writeFileSync(folder.file(`${kind}.yml`), block);
      runPromtool(['check', kind, folder.file(`${kind}.yml`)]);
    }
  },
  unlessTool,
);
