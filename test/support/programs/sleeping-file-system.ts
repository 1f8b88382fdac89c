// Serves a file system (FUSE, version 7.31 of its protocol) until its one file has been opened, and then no longer
// answers. Sends that open file over the channel that is its descriptor 3, and writes where it mounted. As root.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, openSync, read, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DmaBufChannel } from 'dmabuf';

/** <linux/fuse.h> */
const requests = { lookup: 1, open: 14, init: 26 } as const;
const noFlush = 1 << 5; // FOPEN_NOFLUSH: close(2) asks nothing

const channel = DmaBufChannel.adopt(3);
const folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
const device = openSync('/dev/fuse', 'r+');
const options = 'fd=3,rootmode=40000,user_id=0,group_id=0';
const { status, stderr } = spawnSync('mount', ['-i', '-t', 'fuse', '-o', options, 'sleeping', folder], {
  stdio: ['ignore', 'ignore', 'pipe', device],
});
if (status !== 0) throw new Error(String(stderr));

function answer(unique: bigint, body: Buffer): void {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(header.length + body.length, 0);
  header.writeBigUInt64LE(unique, 8);
  writeSync(device, Buffer.concat([header, body]));
}

function initialised(): Buffer {
  const body = Buffer.alloc(64);
  body.writeUInt32LE(7, 0); // major
  body.writeUInt32LE(31, 4); // minor
  body.writeUInt32LE(4096, 20); // max_write
  return body;
}

/** A regular file whose attributes are forgotten at once. */
function entry(): Buffer {
  const body = Buffer.alloc(40 + 88);
  body.writeBigUInt64LE(2n, 0); // nodeid
  body.writeBigUInt64LE(1000n, 16); // entry_valid
  body.writeBigUInt64LE(2n, 40); // ino
  body.writeUInt32LE(0o100644, 40 + 60); // mode
  body.writeUInt32LE(1, 40 + 64); // nlink
  return body;
}

function opened(): Buffer {
  const body = Buffer.alloc(16);
  body.writeUInt32LE(noFlush, 8);
  return body;
}

async function serve(): Promise<void> {
  const request = Buffer.alloc(1 << 17);
  for (;;) {
    const { bytesRead } = await promisify(read)(device, request, 0, request.length, null);
    if (bytesRead === 0) return;
    const unique = request.readBigUInt64LE(8);
    const code = request.readUInt32LE(4);
    if (code === requests.init) answer(unique, initialised());
    else if (code === requests.lookup) answer(unique, entry());
    else if (code === requests.open) answer(unique, opened());
    // Every other request waits for ever.
  }
}

void serve();
const file = await open(join(folder, 'file'), 'r');
await channel.send('x', [file.fd]);
channel.close();
process.stdout.write(`${folder}\n`);
