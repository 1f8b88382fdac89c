// A guest of QEMU's with an arm64 kernel: its files are an initramfs, and nothing of the host's is seen.

import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The entries of an archive for a folder's files, below `as`. */
export function folderEntries(folder, as) {
  const entries = [];
  for (const name of readdirSync(folder, { recursive: true })) {
    const path = join(folder, name);
    const status = statSync(path);
    if (status.isFile())
      entries.push({ path: join(as, name), data: readFileSync(path), mode: status.mode & 0o777 });
  }
  return entries;
}

const init = (commands) => `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmp /tmp
mount -t debugfs debugfs /sys/kernel/debug
mount -t bpf bpf /sys/fs/bpf
(
set -e
${commands}
)
echo "guest: status $?"
poweroff -f
`;

/** Runs shell commands in a guest; what they print. Throws when one of them fails, or the time is up. */
export async function runInArm64({ kernel, entries, commands, archive, seconds }) {
  const { writeCpio } = await import('../../dist/lib/vm/cpio.js');
  writeFileSync(archive, writeCpio([...entries, { path: 'init', data: init(commands), mode: 0o755 }]));
  // A processor that knows pages of 16 KiB; with QEMU's 'max' all takes half as long again.
  const machine = '-M virt -cpu neoverse-n1 -accel tcg,thread=multi -smp 2 -m 2048';
  const devices = '-display none -nodefaults -serial stdio -net none -no-reboot';
  const words = 'console=ttyAMA0 panic=-1 oops=panic quiet';
  const boot = ['-kernel', kernel, '-initrd', archive, '-append', words];
  const child = spawn('qemu-system-aarch64', [...`${machine} ${devices}`.split(' '), ...boot], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: seconds * 1000,
    killSignal: 'SIGKILL',
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
  }
  await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (!/^guest: status 0\s*$/m.test(output)) {
    throw new Error(`the arm64 guest did not end well (in ${seconds} s at most):\n${output}`);
  }
  return output.replaceAll('\r', '');
}
