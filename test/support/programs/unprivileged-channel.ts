// Runs as an ordinary user, perhaps with a low limit of descriptors.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DmaBufChannel } from 'dmabuf';
import { flagsOf, openFds } from '../descriptors.js';
import { turns } from '../event-loop.js';
import { errorOf, type ReportedError } from '../expect.js';
import { report } from '../programs.js';
import { ForeignSocket } from '../sockets.js';

export interface UnprivilegedChannelReport {
  /** What each call says to a message size that takes CAP_NET_ADMIN. */
  tooLarge: Partial<Record<'pair' | 'adopt' | 'connect' | 'listen', ReportedError>>;
  /** The net.core.wmem_max that allows that size. */
  cure: number;
  /** The largest that is allowed. */
  largest: number;
  flagsBeforeRefusal: number;
  flagsAfterRefusal: number;
  /** Descriptors that the refused calls left. */
  left: string[];
  /** When the limit on descriptors in flight was reached, if it was. */
  tooMany?: ReportedError;
  sentAfterTooMany?: boolean;
}

const wmemMax = Number(readFileSync('/proc/sys/net/core/wmem_max', 'latin1'));
const maxMessageSize = 2 * wmemMax + 1000;
const options = { maxMessageSize };

const folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
const path = join(folder, 'socket');

const before = openFds();
const tooLarge: UnprivilegedChannelReport['tooLarge'] = {};
tooLarge.pair = await errorOf(() => DmaBufChannel.pair(options));

const [one, other] = ForeignSocket.pair('seqpacket', 0);
const flagsBeforeRefusal = flagsOf(one.fd);
tooLarge.adopt = await errorOf(() => DmaBufChannel.adopt(one.fd, options));
const flagsAfterRefusal = flagsOf(one.fd);
one.close();
other.close();

const foreign = ForeignSocket.serve(path);
tooLarge.connect = await errorOf(() => DmaBufChannel.connect(path, options));
foreign.close();

tooLarge.listen = await errorOf(async () => {
  using server = DmaBufChannel.listen(path, options);
  using client = await DmaBufChannel.connect(path);
  (await server.accept()).close();
  client.close();
});
await turns();
const left = [...openFds()].filter(([fd]) => !before.has(fd)).map(([fd, target]) => `${fd} ${target}`);

const allowed = DmaBufChannel.pair({ maxMessageSize: 2 * wmemMax - 32 });
const largest = allowed[0].maxMessageSize;
await allowed[0].send(Buffer.alloc(largest));
await allowed[1].receive();
for (const channel of allowed) channel.close();

const observed: UnprivilegedChannelReport = {
  tooLarge,
  cure: Math.ceil((maxMessageSize + 32) / 2),
  largest,
  flagsBeforeRefusal,
  flagsAfterRefusal,
  left,
};

const limit = Number(/^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1]);
if (limit < 1000) {
  const [sender, receiver] = DmaBufChannel.pair();
  let sent = 0;
  observed.tooMany = await errorOf(async () => {
    for (; sent < 100; sent++) await sender.send('x', new Array(8).fill(0));
  });
  for (; sent > 0; sent--) {
    for (const fd of (await receiver.receive())?.handles ?? []) new ForeignSocket(fd as number).close();
  }
  await sender.send('x', [0]);
  observed.sentAfterTooMany = (await receiver.receive())?.handles.length === 1;
}

rmSync(folder, { recursive: true });
report(observed);
