// node scripts/prometheus.mjs: prints the path of a Prometheus, which it takes out of Debian's package on the first call.
// The package is not installed: that would start a service, and bring 330 MB.

import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cached } from './cached.mjs';
import { setup } from './setup.mjs';

async function download(folder, progress) {
  const { privateApt } = await import('../dist/lib/vm/apt.js');
  const { run } = await import('../dist/lib/vm/process.js');
  const apt = privateApt(join(folder, 'apt'));
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
  const unpacked = join(folder, 'unpacked');
  mkdirSync(unpacked);
  const { status, stderr } = await run('dpkg', ['-x', join(apt.downloads, file), unpacked]);
  if (status !== 0) throw new Error(`dpkg could not unpack it: ${stderr.trim()}`);
  for (const name of ['prometheus', 'promtool'])
    renameSync(join(unpacked, 'usr/bin', name), join(folder, name));
  for (const left of [unpacked, join(folder, 'apt')]) rmSync(left, { recursive: true });
}

/** The path of a Prometheus, with promtool beside it. */
export async function prometheus(progress) {
  try {
    const folder = await cached('prometheus', progress, (work) => download(work, progress));
    return join(folder, 'prometheus');
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
