// dmabuf vm is ended at each of its stages: it ends by the signal, and leaves no process, no lock and nothing by halves.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import {
  createReadStream,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { findProgram } from '../../lib/vm/process.js';
import { provideTools } from '../../lib/vm/provision.js';
import { AptRepository } from '../support/apt-repository.js';
import { mirrorWithTools, StoppingServer } from '../support/mirrors.js';
import { publishModuleHeaders, publishModuleSource } from '../support/module-packages.js';
import { packageRoot } from '../support/programs.js';

const MAIN = join(packageRoot, 'dist/package/cli.js');
const SUITE = 'trixie-backports';
const RELEASE = '7.99.1+deb13-amd64';

const ENDINGS = [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const;

/** A runner, and whatever it starts. */
class Runner {
  readonly process: ChildProcess;
  readonly ended: Promise<unknown[]>;
  readonly #mark = `DMABUF_INTERRUPTED=${randomUUID()}`;
  readonly #said: string[] = [];
  #onLine: () => void = () => {};
  #hasEnded = false;

  constructor(command: readonly string[], env: NodeJS.ProcessEnv) {
    const [name, value] = this.#mark.split('=') as [string, string];
    this.process = spawn(command[0] as string, command.slice(1), {
      env: { ...process.env, ...env, no_proxy: '127.0.0.1', [name]: value },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.ended = once(this.process, 'close');
    void this.ended.then(() => {
      this.#hasEnded = true;
      this.#onLine();
    });
    createInterface({ input: this.process.stderr as NodeJS.ReadableStream }).on('line', (line) => {
      this.#said.push(line);
      this.#onLine();
    });
  }

  get said(): string {
    return this.#said.join('\n');
  }

  async says(line: RegExp): Promise<void> {
    while (!this.#said.some((one) => line.test(one))) {
      assert.equal(this.#hasEnded, false, `it has ended, and did not say ${line}:\n${this.said}`);
      await new Promise<void>((resolve) => {
        this.#onLine = resolve;
      });
    }
  }

  /** The names of the processes that it has started, and that run. */
  processes(): string[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name) && Number(name) !== this.process.pid)
      .flatMap((pid) => {
        try {
          if (!readFileSync(`/proc/${pid}/environ`, 'latin1').includes(this.#mark)) return [];
          return [readFileSync(`/proc/${pid}/comm`, 'utf8').trim()];
        } catch {
          return []; // It has ended meanwhile.
        }
      });
  }

  /** Resolves when it has started such a program, for which there is no event. */
  async runs(program: string): Promise<void> {
    while (!this.processes().includes(program)) {
      assert.equal(this.#hasEnded, false, this.said);
      await delay(1);
    }
  }
}

/** All files in a folder, as paths in it. */
function filesIn(folder: string): string[] {
  const all = readdirSync(folder, { recursive: true, withFileTypes: true });
  return all
    .filter((one) => !one.isDirectory())
    .map((one) => join(one.parentPath, one.name).slice(folder.length + 1))
    .sort();
}

describe('dmabuf vm that is ended', () => {
  let debian: AptRepository;
  let cache: string;
  let temporary: string;

  beforeEach(async () => {
    debian = await mirrorWithTools();
    cache = join(debian.env.XDG_CACHE_HOME, 'dmabuf');
    temporary = mkdtempSync(join(tmpdir(), 'dmabuf-interrupted-'));
  });
  afterEach(() => {
    debian[Symbol.dispose]();
    rmSync(temporary, { recursive: true });
  });

  const start = (...args: string[]): Runner =>
    new Runner([process.execPath, MAIN, 'vm', ...args, '--', 'true'], { ...debian.env, TMPDIR: temporary });

  async function endsBy(
    runner: Runner,
    signal: NodeJS.Signals,
    status: number,
    kept: readonly string[],
  ): Promise<void> {
    runner.process.kill(signal);
    assert.deepEqual(await runner.ended, [status, null], runner.said);
    assert.deepEqual(runner.processes(), []);
    assert.deepEqual(filesIn(cache), ['busybox-static', ...kept].sort());
    for (const lock of kept.filter((path) => path.endsWith('.lock')))
      assert.equal(spawnSync('flock', ['-n', join(cache, lock), 'true']).status, 0, `${lock} is held`);
    assert.deepEqual(readdirSync(temporary), []);
  }

  for (const [signal, status] of ENDINGS) {
    describe(`by ${signal}`, () => {
      it('while it reads what a suite offers', async () => {
        debian.publish(SUITE, RELEASE);
        await using server = await StoppingServer.start(debian);
        const stopped = server.stopAt(/Packages$/);
        const runner = start();
        await stopped;
        await endsBy(runner, signal, status, ['kernels/.lock']);
      });

      it('while it downloads', async () => {
        debian.publish(SUITE, RELEASE);
        await using server = await StoppingServer.start(debian);
        const stopped = server.stopAt(/\.deb$/);
        const runner = start();
        await stopped;
        await endsBy(runner, signal, status, ['kernels/.lock']);
      });

      it('while it unpacks', async () => {
        debian.publish(SUITE, RELEASE);
        debian.publishFiles(
          SUITE,
          { name: `linux-modules-${RELEASE}`, version: '1' },
          { large: { zeros: 2 ** 29 } },
        );
        const runner = start();
        await runner.says(/unpacking/);
        await runner.runs('tar');
        await endsBy(runner, signal, status, ['kernels/.lock']);
      });

      it('while it waits for another run', async () => {
        mkdirSync(join(cache, 'kernels'));
        const other = spawn('flock', [join(cache, 'kernels/.lock'), 'sh', '-c', 'echo held; exec cat']);
        await once(other.stdout, 'data');
        const runner = start();
        await runner.says(/waiting for another run that is fetching a kernel/);
        runner.process.kill(signal);
        assert.deepEqual(await runner.ended, [status, null], runner.said);
        assert.deepEqual(runner.processes(), []);
        other.stdin.end();
        await once(other, 'close');
      });

      it('while it builds modules', async () => {
        debian.publish(SUITE, RELEASE);
        const building = join(temporary, '..', `dmabuf-fifo-${randomUUID()}`);
        assert.equal(spawnSync('mkfifo', [building]).status, 0);
        try {
          publishModuleHeaders(debian, SUITE, RELEASE, [
            `touch $@; echo begun >${building}; exec sleep 100000`,
          ]);
          publishModuleSource(debian, SUITE);
          const runner = start('--modules', 'sw_sync');
          await Promise.race([once(createReadStream(building), 'data'), runner.ended]);
          const kernel = ['config', 'modules/modules.builtin', 'vmlinuz'].map(
            (name) => `kernels/${RELEASE}/${name}`,
          );
          await endsBy(runner, signal, status, [
            ...kernel,
            ...['kernels/.lock', 'kernels/names.json', 'modules/.lock'],
          ]);
        } finally {
          rmSync(building);
        }
      });

      it('while it boots', async () => {
        const { XDG_CACHE_HOME } = process.env;
        const env = { TMPDIR: temporary, ...(XDG_CACHE_HOME === undefined ? {} : { XDG_CACHE_HOME }) };
        const runner = new Runner([process.execPath, MAIN, 'vm', '--kernel', 'stable', '--', 'true'], env);
        await runner.says(/booting/);
        await runner.runs('qemu-system-x86');
        runner.process.kill(signal);
        assert.deepEqual(await runner.ended, [status, null], runner.said);
        assert.deepEqual(runner.processes(), []);
        assert.deepEqual(readdirSync(temporary), []);
      });
    });
  }
});

describe('the tools of a guest, which a machine does not have', () => {
  let debian: AptRepository;
  let folder: string;
  const fifo = (name: string): string => join(folder, name);

  beforeEach(async () => {
    // The machine's own busybox that has all that is needed, in a package.
    const { busybox } = await provideTools({ progress: () => {}, signal: undefined });
    debian = new AptRepository();
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-tools-'));
    debian.installInto(join(folder, 'root'));
    assert.equal(spawnSync('mkfifo', [fifo('begun'), fifo('go')]).status, 0);
    const files = { 'usr/bin/busybox': readFileSync(busybox) };
    debian.publishFiles('trixie', { name: 'busybox-static', version: '1' }, files);
    debian.publishFiles(
      'trixie',
      { name: 'qemu-system-x86', version: '1' },
      {
        'usr/bin/qemu-system-x86_64': '#!/bin/sh\n',
        'DEBIAN/postinst': `#!/bin/sh\necho configuring >${fifo('begun')}\nread -r go <${fifo('go')}\n`,
      },
    );
  });
  afterEach(() => {
    debian[Symbol.dispose]();
    rmSync(folder, { recursive: true });
  });

  /** A process for which the machine has none of the tools, and which may install packages into the folder. */
  function start(...command: string[]): Runner {
    const hidden = ['qemu-system-x86_64', 'busybox'].map(findProgram).filter((path) => path !== undefined);
    const hide = hidden.map((path) => `mount --bind /dev/null ${path} && `).join('');
    const unshare = [
      'unshare',
      process.getuid?.() === 0 ? '-m' : '-rm',
      'sh',
      '-c',
      `${hide}exec "$@"`,
      'sh',
    ];
    const path = `${join(folder, 'root/usr/bin')}:${process.env.PATH}`;
    return new Runner([...unshare, process.execPath, ...command], { ...debian.env, PATH: path });
  }

  /** Resolves when apt configures the package, and waits. */
  const configuring = (...runners: readonly Runner[]): Promise<unknown> =>
    Promise.race([once(createReadStream(fifo('begun')), 'data'), ...runners.map(({ ended }) => ended)]);
  const goOn = (): void => writeFileSync(fifo('go'), 'go\n');

  /** What dpkg says of the package. */
  const isInstalled = (): boolean =>
    /^Package: qemu-system-x86\nStatus: install ok installed$/m.test(
      readFileSync(join(folder, 'root/var/lib/dpkg/status'), 'utf8'),
    );

  for (const [signal, status] of ENDINGS) {
    it(`are installed whole, also on ${signal}: apt ends what it has begun`, async () => {
      const runner = start(MAIN, 'vm', '--', 'true');
      await configuring(runner);
      runner.process.kill(signal);
      await runner.says(/waiting for apt, which ends what it has begun/);
      goOn();
      assert.deepEqual(await runner.ended, [status, null], runner.said);
      assert.deepEqual(runner.processes(), []);
      assert.equal(isInstalled(), true);
    });
  }

  it('are installed and fetched once where two ask at the same moment; one waits, and says for what', async () => {
    const module = new URL('../../lib/vm/provision.js', import.meta.url).href;
    const script = `import { provideTools } from ${JSON.stringify(module)};
      const { qemu, busybox } = await provideTools({ progress: (text) => console.error(text), signal: undefined });
      console.error('has', qemu, busybox);`;
    const runners = [1, 2].map(() => start('--input-type=module', '-e', script)) as [Runner, Runner];
    await configuring(...runners);
    await Promise.race(
      runners.map((one) => one.says(/waiting for another run that is installing qemu-system-x86$/)),
    );
    goOn();
    for (const runner of runners) assert.deepEqual(await runner.ended, [0, null], runner.said);
    const said = runners.map((one) => one.said).join('\n');
    const qemu = join(folder, 'root/usr/bin/qemu-system-x86_64');
    const busybox = join(debian.env.XDG_CACHE_HOME, 'dmabuf/busybox-static/busybox');
    assert.equal(said.split('\n').filter((line) => line === `has ${qemu} ${busybox}`).length, 2, said);
    assert.equal(said.match(/^fetching busybox-static …$/gm)?.length, 1, said);
    assert.deepEqual(readdirSync(join(busybox, '..')).sort(), ['.lock', 'busybox']);
  });
});
