// node scripts/prometheus.mjs: prints the path of a Prometheus, which it takes out of Debian's package on the first call.
// The package is not installed: that would start a service, and bring 330 MB.

import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setup } from './setup.mjs';

const programs = ['prometheus', 'promtool'];

async function download(folder, progress) {
  const { privateApt } = await import('../dist/lib/vm/apt.js');
  const { run } = await import('../dist/lib/vm/process.js');
  const work = mkdtempSync(join(folder, 'unfinished-'));
  try {
    const apt = privateApt(join(work, 'apt'));
    const archive = () => readdirSync(apt.downloads).find((name) => name.endsWith('.deb'));
    progress("fetching Debian's package prometheus (20 MB)");
    const fetchIt = (args = []) =>
      run('apt-get', ['-o', 'APT::Sandbox::User=root', ...args, 'download', 'prometheus'], {
        cwd: apt.downloads,
      });
    // By the machine's own package lists, if it has any, else by new ones.
    let result = await fetchIt();
    if (archive() === undefined) {
      await apt.run('apt-get', ['update']);
      result = await apt.run('apt-get', ['download', 'prometheus']);
    }
    const file = archive();
    if (file === undefined) throw new Error(`apt-get could not download it: ${result.stderr.trim()}`);
    const unpacked = join(work, 'unpacked');
    mkdirSync(unpacked);
    const { status, stderr } = await run('dpkg', ['-x', join(apt.downloads, file), unpacked]);
    if (status !== 0) throw new Error(`dpkg could not unpack it: ${stderr.trim()}`);
    // The one that is looked for comes last.
    for (const name of programs.toReversed()) {
      copyFileSync(join(unpacked, 'usr/bin', name), join(work, name));
      renameSync(join(work, name), join(folder, name));
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** The path of a Prometheus, with promtool beside it. */
export async function prometheus(progress) {
  const { cacheFolder } = await import('../dist/lib/vm/kernels.js');
  const { withLock } = await import('../dist/lib/vm/lock.js');
  const folder = join(cacheFolder(), 'prometheus');
  const binary = join(folder, 'prometheus');
  try {
    if (existsSync(binary)) return binary;
    await withLock(join(folder, '.lock'), { progress }, async () => {
      if (!existsSync(binary)) await download(folder, progress);
    });
    return binary;
  } catch (error) {
    throw new Error(
      `the test with a real Prometheus has none: ${error.message}\n` +
        'Set DMABUF_PROMETHEUS to the path of one, or to nothing (DMABUF_PROMETHEUS= npm test) to skip that test.',
    );
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  setup();
  const say = (text) => process.stderr.write(`prometheus: ${text}\n`);
  try {
    console.log(await prometheus(say));
  } catch (error) {
    say(error.message);
    process.exitCode = 1;
  }
}
