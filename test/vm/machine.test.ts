// What a guest's machine has when it is asked for: a network, devices of QEMU's, a display whose picture is taken.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { capture } from './capture.js';

const base = mkdtempSync(join(tmpdir(), 'dmabuf-machine-'));
const temporary = join(base, 'temporary');
mkdirSync(temporary);
process.env.TMPDIR = temporary;
after(() => rmSync(base, { recursive: true }));

/** The colour in the middle of a picture, and whether QEMU wrote it as a whole. */
function middleOf(file: string): string | undefined {
  const data = readFileSync(file);
  const [header, width, height] = /^P6\n(\d+) (\d+)\n255\n/.exec(data.toString('latin1')) ?? [];
  assert.ok(header, 'it is no PPM');
  assert.equal(data.length, header.length + Number(width) * Number(height) * 3);
  const pixel = Math.floor(Number(height) / 2) * Number(width) + Math.floor(Number(width) / 2);
  const colour = [...data.subarray(header.length + pixel * 3).subarray(0, 3)].map((value) => value > 100);
  return ['red', 'green', 'blue'].find((_name, index) =>
    colour.every((isOn, other) => isOn === (other === index)),
  );
}

/** Fills the screen of a VGA card, which the kernel's console writes to. */
const fill = (colour: number): string => `printf '\\033[4${colour}m\\033[2J' >/dev/tty1`;

describe('the machine of a guest', { concurrency: 2 }, () => {
  it('has a network that is set up, and a picture of its display when the command has ended', async () => {
    const server = createServer((_request, response) => response.end('from the host')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const { port } = server.address() as AddressInfo;
      const screendump = join(base, 'end.ppm');
      const script =
        'ip -o -4 addr show eth0; ip route; cat /etc/resolv.conf; ' +
        `"$0" -e 'fetch("http://10.0.2.2:${port}/").then((r) => r.text()).then(console.log)'; ${fill(2)}`;
      const { exitCode, stdout, stderr } = await capture({
        command: ['sh', '-ec', script, process.execPath],
        network: true,
        machine: ['q35'],
        devices: ['VGA'],
        screendump,
      });
      assert.equal(exitCode, 0, stderr);
      assert.match(
        stdout.toString(),
        /inet 10\.0\.2\.15\/24 .*\ndefault via 10\.0\.2\.2 dev eth0 \n.*nameserver 10\.0\.2\.3\nfrom the host\n$/s,
      );
      assert.equal(middleOf(screendump), 'green');
    } finally {
      server.close();
    }
  });

  it('has devices that are asked for, no network, and a picture taken when the command asks for it', async () => {
    const screendump = join(base, 'asked.ppm');
    const script =
      `cat /sys/bus/virtio/devices/*/device; ls /sys/class/net; ${fill(1)}; "$DMABUF_VM_SCREENDUMP"; ` +
      `echo "asked: $?"; ${fill(2)}`;
    const { stdout } = await capture({
      command: ['sh', '-c', script],
      kernel: 'stable',
      devices: ['virtio-rng-pci', 'VGA'],
      screendump,
    });
    const lines = stdout.toString().trim().split('\n');
    assert.ok(lines.includes('0x0004'), 'there is no random number generator');
    assert.deepEqual(lines.slice(-2), ['lo', 'asked: 0']);
    assert.equal(middleOf(screendump), 'red');
  });

  for (const [what, options, message] of [
    [
      'a device',
      { devices: ['no-such-device'] },
      /--device\).*'no-such-device' is not a valid device model name/,
    ],
    ['a machine', { machine: ['pc', 'no-such-property=1'] }, /--machine\).*no-such-property/],
    [
      'a picture without a display',
      { screendump: join(base, 'x.png'), devices: ['virtio-rng-pci'] },
      /--screendump\): QEMU has no picture to take: .*--device VGA/,
    ],
  ] as const) {
    it(`is refused, and not started three times, with ${what} that QEMU does not have`, async () => {
      const told: string[] = [];
      const run = capture({ command: ['true'], ...options, progress: (text) => told.push(text) });
      await assert.rejects(run, { code: 'ERR_DMABUF_VM_OPTION', message });
      assert.equal(
        told.some((text) => text.includes('again')),
        false,
      );
    });
  }
});

describe('the pictures of its display', () => {
  it('leave no temporary files', () => assert.deepEqual(readdirSync(temporary), []));
});
