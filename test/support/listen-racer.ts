// A worker that, in every round, starts to listen at the same moment as its fellows, where a dead server's file is.

import { parentPort, workerData } from 'node:worker_threads';
import { DmaBufChannel, type DmaBufServer } from 'dmabuf';

export interface RacerData {
  /** [0] how many have arrived at the barrier, [1] how often it was passed. */
  shared: Int32Array;
  racers: number;
  paths: readonly string[];
}

const { shared, racers, paths } = workerData as RacerData;
/** What became of each attempt: `'lost'` (EADDRINUSE), `'won'`, or what went wrong. */
const outcomes: string[] = [];

/** Goes on when all are here; busily, so that all go on at once. */
function meet(): void {
  const passed = Atomics.load(shared, 1);
  if (Atomics.add(shared, 0, 1) + 1 === racers) {
    Atomics.store(shared, 0, 0);
    Atomics.add(shared, 1, 1);
  } else {
    while (Atomics.load(shared, 1) === passed);
  }
}

/** Whether who connects to the path comes to this server. */
async function isReachable(server: DmaBufServer): Promise<boolean> {
  try {
    using _client = await DmaBufChannel.connect(server.path);
    using _channel = await server.accept({ timeout: 1000 });
    return true;
  } catch {
    return false;
  }
}

for (const path of paths) {
  let outcome = 'won';
  let server: DmaBufServer | undefined;
  meet();
  try {
    server = DmaBufChannel.listen(path);
  } catch (error) {
    outcome = (error as { code?: string }).code === 'EADDRINUSE' ? 'lost' : String((error as Error).stack);
  }
  meet();
  if (server !== undefined && !(await isReachable(server))) outcome = 'won, and cannot be reached';
  outcomes.push(outcome);
  meet();
  server?.close();
}
parentPort?.postMessage(outcomes);
