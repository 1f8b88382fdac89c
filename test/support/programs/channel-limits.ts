// Runs with a low limit of descriptors, and uses them up.

import { closeSync, existsSync } from 'node:fs';
import { allocateSync, closeHandles, type DmaBuf, DmaBufChannel, importFrom } from 'dmabuf';
import { abstractName } from '../abstract-name.js';
import { fill } from '../channels.js';
import { takeDescriptors } from '../descriptors.js';
import { turns } from '../event-loop.js';
import { errorOf, type ReportedError } from '../expect.js';
import { report } from '../programs.js';
import { ForeignSocket } from '../sockets.js';

export interface DescriptorLimitsReport {
  /** Receiving the first dma-buf of this process with one descriptor left, which that buffer takes. */
  firstArrival: ReportedError | string;
  leftAfterFirstArrival: number;

  queuedWithHandle: ReportedError;
  leftAfterQueued: number;
  queued: string;
  sentWithNone: string;
  sentLater: string;

  waitedToReceive: string;
  /** Three handles, and room for so many. */
  truncated: Record<number, ReportedError>;
  leftAfterTruncated: Record<number, number>;
  nextAfterTruncated: string;
  /** What 2000 messages without handles met with, where there is no descriptor left. */
  talk: string;

  accept: ReportedError;
  waitingToAccept: ReportedError;
  accepted: boolean;
  /** How often accept() was tried, in a loop that catches EMFILE, until a descriptor was free. */
  triesToAccept: number;
  triesToReceive: number;

  /** What else needs descriptors, with so many left. */
  others: Record<string, ReportedError>;
  leftAfterOthers: number;
  /** Whether a listen() that failed left its file. */
  leftFile: boolean;
}

const fillers: number[] = [];

/** Takes every descriptor that is left, and returns how many there were. */
function useUp(): number {
  const taken = takeDescriptors();
  fillers.push(...taken);
  return taken.length;
}

/** The same when so many are there: a closing thread may need a moment. */
async function useUpAll(count: number): Promise<number> {
  let left = useUp();
  for (let tries = 0; tries < 5000 && left < count; tries++) {
    await turns();
    left += useUp();
  }
  return left;
}

/** Leaves room for exactly so many. */
function leave(count: number): void {
  useUp();
  for (let freed = 0; freed < count; freed++) closeSync(fillers.pop() as number);
}

function freeAll(): void {
  for (const fd of fillers.splice(0)) closeSync(fd);
}

/** Tries again and again while something else, on the event loop, makes room. */
async function retry(attempt: () => Promise<unknown>): Promise<number> {
  useUp();
  setImmediate(freeAll);
  for (let tries = 1; tries < 10_000; tries++) {
    try {
      await attempt();
      return tries;
    } catch (error) {
      if ((error as { code?: string }).code !== 'EMFILE') throw error;
    }
  }
  freeAll();
  return Number.POSITIVE_INFINITY;
}

async function talk(here: DmaBufChannel, there: DmaBufChannel, count: number): Promise<string> {
  for (let index = 0; index < count; index++) {
    try {
      await here.send(`${index}`);
      await there.receive();
    } catch (error) {
      return `${index}: ${(error as Error).message}`;
    }
  }
  return 'nothing';
}

function passTimeout(error: { code?: string }): void {
  if (error.code !== 'ETIMEDOUT') throw error;
}

const observed: Partial<DescriptorLimitsReport> = {};

{
  const [here, there] = DmaBufChannel.pair();
  const buffer: DmaBuf = allocateSync(4096);
  await here.send('x', [buffer]);
  leave(1);
  try {
    const message = await there.receive();
    observed.firstArrival = message?.handles[0]?.constructor.name ?? 'nothing';
    closeHandles(message?.handles ?? []);
  } catch (error) {
    observed.firstArrival = await errorOf(() => {
      throw error;
    });
  }
  observed.leftAfterFirstArrival = await useUpAll(1);
  freeAll();
  for (const object of [here, there, buffer]) object.close();
}

{
  const [here, there] = DmaBufChannel.pair();
  const buffer = allocateSync(4096);
  const taken = await fill(here);
  leave(2);
  observed.queuedWithHandle = await errorOf(() => here.send('x', [buffer, buffer, buffer]));
  await turns();
  observed.leftAfterQueued = useUp();
  const queued = here.send('waited');
  await turns();
  for (let index = 0; index < taken; index++) await there.receive();
  await queued;
  observed.queued = Buffer.from((await there.receive())?.data ?? []).toString();
  await here.send('with none', [buffer]);
  freeAll();
  const message = await there.receive();
  observed.sentWithNone = Buffer.from(message?.data ?? []).toString();
  closeHandles(message?.handles ?? []);
  const again = await fill(here);
  const sending = here.send('later', [buffer]);
  for (let index = 0; index < again; index++) await there.receive();
  await sending;
  const later = await there.receive();
  observed.sentLater = Buffer.from(later?.data ?? []).toString();
  closeHandles(later?.handles ?? []);
  for (const object of [here, there, buffer]) object.close();
  await turns();
}

{
  const [here, there] = DmaBufChannel.pair();
  const buffer = allocateSync(4096);
  useUp();
  const receiving = there.receive();
  await turns();
  await here.send('waited');
  observed.waitedToReceive = Buffer.from((await receiving)?.data ?? []).toString();
  observed.truncated = {};
  observed.leftAfterTruncated = {};
  for (const count of [0, 1, 2]) {
    await here.send('x', [0, buffer, 0]);
    leave(count);
    observed.truncated[count] = await errorOf(() => there.receive());
    observed.leftAfterTruncated[count] = await useUpAll(count);
  }
  freeAll();
  useUp();
  observed.talk = await talk(here, there, 2000);
  freeAll();
  await here.send('whole', [0, buffer, 0]);
  const message = await there.receive();
  observed.nextAfterTruncated = `${Buffer.from(message?.data ?? [])} ${message?.handles.length}`;
  closeHandles(message?.handles ?? []);
  for (const object of [here, there, buffer]) object.close();
}

{
  const name = abstractName();
  const server = DmaBufChannel.listen(name);
  const client = await DmaBufChannel.connect(name);
  useUp();
  observed.accept = await errorOf(() => server.accept());
  freeAll();
  const channel = await server.accept();
  await client.send('x');
  observed.accepted = (await channel.receive())?.data.length === 1;
  useUp();
  observed.waitingToAccept = await errorOf(() => server.accept());
  freeAll();
  const waiting = await DmaBufChannel.connect(name);
  observed.triesToAccept = await retry(async () => (await server.accept()).close());
  observed.triesToReceive = await retry(() => client.receive({ timeout: 1 }).catch(passTimeout));
  for (const object of [server, client, channel, waiting]) object.close();
}

{
  const name = abstractName();
  const server = ForeignSocket.serve(name);
  const buffer = allocateSync(4096);
  const { fd } = buffer;
  const path = `/tmp/dmabuf-test-${process.pid}.sock`;
  const others: Record<string, ReportedError> = {};
  leave(0);
  others['pair with none'] = await errorOf(() => DmaBufChannel.pair());
  others['connect with none'] = await errorOf(() => DmaBufChannel.connect(name));
  others['listen with none'] = await errorOf(() => DmaBufChannel.listen(abstractName()));
  others['importFrom with none'] = await errorOf(() => importFrom(process.pid, fd));
  leave(1);
  others['pair with one'] = await errorOf(() => DmaBufChannel.pair());
  others['listen at a path with one'] = await errorOf(() => DmaBufChannel.listen(path));
  others['importFrom with one'] = await errorOf(() => importFrom(process.pid, fd));
  observed.leftAfterOthers = await useUpAll(1);
  observed.leftFile = existsSync(path);
  observed.others = others;
  freeAll();
  server.close();
  buffer.close();
}

report(observed);
