import { DmaBufChannel } from 'dmabuf';
import { leavesNothing, openFds } from './descriptors.js';
import { turns } from './event-loop.js';
import { kernelTest, type TestBody } from './kernel-test.js';
import { Peer } from './peers.js';

/**
 * A `kernelTest` that fails when it leaves a descriptor of any kind behind. What is closed a little later, such as the pipes of
 * a process that has ended, is waited for.
 */
export function channelTest(name: string, body: TestBody, unless?: string | false): void {
  kernelTest(
    name,
    async (t) => {
      await warmUp();
      await leavesNothing(async () => {
        const before = openFds();
        await body(t);
        await turns();
        const isMore = (): boolean => [...openFds().keys()].some((fd) => !before.has(fd));
        for (let round = 0; round < 200 && isMore(); round++) await turns();
      });
    },
    unless,
  );
}

let isWarm = false;

/** Has Node open what it opens once for child processes, and the library what it opens once for waiting. */
async function warmUp(): Promise<void> {
  if (isWarm) return;
  isWarm = true;
  await using peer = new Peer('true', []);
  await peer.ended;
  const [here, there] = DmaBufChannel.pair();
  await here.receive({ timeout: 1 }).catch(() => {});
  here.close();
  there.close();
  await turns();
}
