// dmabuf/inspect and dmabuf/metrics, by each of their sources.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Snapshot, SnapshotOptions } from 'dmabuf/inspect';
import { Registry } from 'prom-client';
import type { Script, Scripts, Tools } from '../script.js';

/** What of a snapshot is the same each time: what this process holds. */
function shown(snapshot: Snapshot): unknown {
  const own = snapshot.processes.find(({ pid }) => pid === process.pid);
  return [
    snapshot.source.join(),
    snapshot.total.buffers,
    snapshot.total.size,
    own?.buffers,
    own?.fds,
    snapshot.buffers.map(({ exporter, name }) => `${exporter} ${name}`).join(),
    snapshot.unreadable.map(({ error }) => error).join(),
    snapshot.attempts.map(({ source, error }) => `${source} ${error.code}`).join(),
  ];
}

const taken =
  (options: SnapshotOptions): Script =>
  async ({ inspect, begin }) => {
    begin();
    return shown(await inspect.snapshot(options));
  };

const folder = '/sys/fs/bpf/inject';

let holder: ChildProcess | undefined;

/** A process that has a buffer as its descriptor 3 as long as this one runs: to start one takes longer than to read from it. */
function holderOf({ fd }: Tools['buffer']): number {
  holder ??= spawn('setpriv', ['--pdeathsig', 'KILL', 'sleep', '100000'], {
    stdio: ['ignore', 'ignore', 'ignore', fd],
  });
  return holder.pid as number;
}

export const inspection: Scripts = {
  'snapshot by procfs': taken({ source: 'procfs' }),
  'snapshot of this process': taken({ source: 'procfs', pids: [process.pid] }),
  'snapshot by BPF': taken({ source: 'bpf' }),
  'snapshot by debugfs': taken({ source: 'debugfs' }),
  'snapshot by sysfs': taken({ source: 'sysfs' }),
  'snapshot by any': taken({}),
  'snapshot with devices': taken({ devices: true }),
  'pinSync, snapshot, unpinSync': async ({ inspect, begin, end, after }) => {
    after(() => {
      if (existsSync(folder)) inspect.unpinSync(folder);
    });
    begin();
    const files = inspect.pinSync({ folder, holders: true });
    const result = shown(await inspect.snapshot({ source: 'bpf', pinned: folder }));
    inspect.unpinSync(folder);
    end();
    return [files.length, result];
  },
  unpinSync: ({ inspect, begin, end, after }) => {
    inspect.pinSync({ folder });
    after(() => {
      if (existsSync(folder)) inspect.unpinSync(folder);
    });
    begin();
    inspect.unpinSync(folder);
    end();
    return existsSync(folder);
  },
  'unpinSync where nothing is pinned': ({ inspect, begin }) => {
    begin();
    inspect.unpinSync(`${folder}-of-nobody`);
  },
  examine: async ({ inspect, begin }) => {
    begin();
    const findings = await inspect.examine();
    // How much memory there is, and how many processes, is another time's business.
    return findings.map(
      ({ subject, status, text }) => `${subject} ${status} ${text.replace(/\b[0-9][0-9.]*\b/g, '0')}`,
    );
  },
  readFdInfo: ({ inspect, buffer, begin }) => {
    begin();
    return inspect.readFdInfo('self', buffer.fd)?.size;
  },
  'readFdInfo of another process': ({ inspect, buffer, begin }) => {
    const pid = holderOf(buffer);
    begin();
    return inspect.readFdInfo(pid, 3)?.size;
  },
  'parseFdInfo, diff': async ({ inspect, begin }) => {
    const before = await inspect.snapshot({ source: 'procfs', pids: [process.pid] });
    begin();
    const { appeared } = inspect.diff(before, before);
    return [appeared.length, inspect.parseFdInfo('size:\t1\ncount:\t1\nexp_name:\tsystem\n')?.size];
  },
  watch: async ({ inspect, begin }) => {
    begin();
    for await (const snapshot of inspect.watch({ interval: 100, source: 'procfs', pids: [process.pid] }))
      return shown(snapshot);
    return 'nothing';
  },
  registerMetrics: async ({ metrics, begin, after }) => {
    const register = new Registry();
    const errors: unknown[] = [];
    const { unregister } = metrics.registerMetrics({
      register,
      pids: [process.pid],
      source: 'procfs',
      onError: (error) => errors.push(error),
    });
    after(unregister);
    begin();
    const text = await register.metrics();
    await new Promise((resolve) => setImmediate(resolve));
    if (errors.length > 0) throw errors[0];
    return text.match(/^dmabuf_(total_bytes|unreadable_processes) .*$/gm);
  },
};
