// Waits in every direction, and reports what each wait was told.

import { DmaBufChannel } from 'dmabuf';

async function connection(name: string): Promise<boolean> {
  using server = DmaBufChannel.listen(name);
  const accepted = server.accept();
  using client = await DmaBufChannel.connect(name);
  using channel = await accepted;
  return !client.closed && !channel.closed;
}

async function message(): Promise<number | undefined> {
  const [here, there] = DmaBufChannel.pair();
  const received = there.receive();
  setImmediate(() => void here.send('message'));
  const length = (await received)?.data.length;
  here.close();
  there.close();
  return length;
}

/** What the socket has no room for until somebody receives. */
async function slowMessages(): Promise<number> {
  const [here, there] = DmaBufChannel.pair();
  const data = new Uint8Array(100_000);
  let sent = 0;
  const sending = Array.from({ length: 8 }, () => here.send(data).then(() => sent++));
  for (let count = 0; count < 8; count++) await there.receive();
  await Promise.all(sending);
  here.close();
  there.close();
  return sent;
}

const outcomes = [await connection(`@dmabuf-waits-${process.pid}`), await message(), await slowMessages()];
process.stdout.write(`${JSON.stringify(outcomes)}\n`);
