// Channels and servers.

import { closeSync, existsSync, openSync, unlinkSync, writeFileSync } from 'node:fs';
import type { ChannelMessage, DmaBufChannel } from 'dmabuf';
import { ForeignSocket } from '../../support/sockets.js';
import { asJson, kindsOf, patience, type Scripts, type Tools } from '../script.js';

function aPair({ core, own }: Tools): [DmaBufChannel, DmaBufChannel] {
  const [here, there] = core.DmaBufChannel.pair();
  return [own(here), own(there)];
}

/** An ordinary file, which is neither a dma-buf nor a sync_file. */
function aFile({ after }: Tools): number {
  const fd = openSync('/etc/hostname', 'r');
  after(() => closeSync(fd));
  return fd;
}

function ownHandles({ after }: Tools, message: ChannelMessage | undefined): void {
  after(() => {
    for (const handle of message?.handles ?? []) {
      if (typeof handle === 'number') closeSync(handle);
      else handle.close();
    }
  });
}

const shown = (message: ChannelMessage | undefined): string =>
  message === undefined ? 'the end' : `${Buffer.from(message.data)} ${kindsOf(message.handles)}`;

async function exchange(tools: Tools, path: string): Promise<unknown> {
  const { core, own, buffer, begin } = tools;
  begin();
  const server = own(core.DmaBufChannel.listen(path));
  const client = own(await core.DmaBufChannel.connect(path, { timeout: patience }));
  const channel = own(await server.accept({ timeout: patience }));
  await client.send('x', [buffer], { timeout: patience });
  const message = await channel.receive({ timeout: patience });
  ownHandles(tools, message);
  return [
    shown(message),
    client.peer.pid === process.pid,
    server.fd > 0,
    server.path === path,
    server.closed,
  ];
}

/** Ends an iteration, which has no limit of its own, by closing what it is over; returns what throws when it had to. */
function limited({ after }: Tools, iterated: { close(): void }): () => void {
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    iterated.close();
  }, patience);
  after(() => clearTimeout(timer));
  return () => {
    if (isLate) throw Object.assign(new Error('the script is out of patience'), { code: 'ETIMEDOUT' });
  };
}

/** A path whose file goes with the script. */
function aPath({ after }: Tools): string {
  const path = `/tmp/inject-${process.pid}.sock`;
  after(() => {
    if (existsSync(path)) unlinkSync(path);
  });
  return path;
}

export const channels: Scripts = {
  'DmaBufChannel.pair': ({ core, begin, own }) => {
    begin();
    const [here, there] = core.DmaBufChannel.pair({ maxMessageSize: 4096 });
    own(here);
    own(there);
    return [here.fd > 0, there.maxMessageSize, here.peer.pid === process.pid];
  },
  'DmaBufChannel.send, receive': async (tools) => {
    const [here, there] = aPair(tools);
    const { buffer, own, begin } = tools;
    const file = own(buffer.exportSyncFile('write'));
    const other = aFile(tools);
    begin();
    await here.send('hello', [buffer, file, other], { timeout: patience });
    const message = await there.receive({ timeout: patience });
    ownHandles(tools, message);
    return shown(message);
  },
  'DmaBufChannel.send without data': async (tools) => {
    const [here, there] = aPair(tools);
    tools.begin();
    await here.send('', [tools.buffer], { timeout: patience });
    const message = await there.receive({ timeout: patience });
    ownHandles(tools, message);
    return shown(message);
  },
  'DmaBufChannel.receive, waiting': async (tools) => {
    const [here, there] = aPair(tools);
    const { core, buffer, begin } = tools;
    begin();
    const waiting = there.receive({ timeout: patience });
    waiting.catch(() => {}); // it may be refused at once
    await new Promise((resolve) => setImmediate(resolve));
    const sending = here.send('late', [buffer]);
    const [message] = await Promise.all([waiting, sending]);
    const result = shown(message);
    core.closeHandles(message?.handles ?? []);
    return result;
  },
  'DmaBufChannel.send, waiting': async (tools) => {
    const [here, there] = aPair(tools);
    const full = new Uint8Array(100_000);
    let sent = 0;
    const sending: Promise<void>[] = [];
    for (; sent < 4; sent++) sending.push(here.send(full));
    tools.begin();
    sending.push(here.send('last', [tools.buffer], { timeout: patience }));
    const failure = Promise.all(sending).then(() => new Promise<never>(() => {}));
    let arrived = 0;
    let last: ChannelMessage | undefined;
    while (arrived <= sent) {
      last = await Promise.race([there.receive({ timeout: patience }), failure]);
      ownHandles(tools, last);
      arrived++;
    }
    return [arrived, shown(last)];
  },
  'DmaBufChannel, the end': async (tools) => {
    const [here, there] = aPair(tools);
    tools.begin();
    here.close();
    return [here.closed, shown(await there.receive({ timeout: patience }))];
  },
  'DmaBufChannel, iterated': async (tools) => {
    const [here, there] = aPair(tools);
    await here.send('one');
    await here.send('two');
    here.close();
    tools.begin();
    const texts: string[] = [];
    const check = limited(tools, there);
    for await (const { data } of there) texts.push(Buffer.from(data).toString());
    check();
    return texts.join();
  },
  'DmaBufChannel.close with messages in its queue': async (tools) => {
    const [here, there] = aPair(tools);
    await here.send('never read', [tools.buffer, aFile(tools)]);
    tools.begin();
    there.close();
    return there.closed;
  },
  'DmaBufChannel.adopt': (tools) => {
    const [here] = tools.core.DmaBufChannel.pair();
    const fd = here.release();
    let adopted = false;
    tools.after(() => {
      if (!adopted) closeSync(fd);
    });
    tools.begin();
    const channel = tools.own(tools.core.DmaBufChannel.adopt(fd));
    adopted = true;
    return channel.closed;
  },
  'DmaBufChannel and DmaBufServer as JSON': (tools) => {
    const { core, own, begin, name } = tools;
    const [here] = aPair(tools);
    const server = own(core.DmaBufChannel.listen(name()));
    begin();
    return asJson(here, server);
  },
  'DmaBufChannel.release': (tools) => {
    const [here] = aPair(tools);
    tools.begin();
    const fd = here.release();
    tools.after(() => closeSync(fd));
    return here.closed;
  },
  closeHandles: async (tools) => {
    const [here, there] = aPair(tools);
    const { core, buffer, begin } = tools;
    await here.send('x', [buffer, aFile(tools)]);
    const message = await there.receive();
    begin();
    core.closeHandles(message?.handles ?? []);
    return kindsOf(message?.handles ?? []);
  },
  'closeHandles of numbers': ({ core, begin }) => {
    const fds = ['/etc/hostname', '/dev/null', '/tmp'].map((path) => openSync(path, 'r'));
    begin();
    core.closeHandles(fds);
    return fds.length;
  },
  'DmaBufServer at a path': (tools) => exchange(tools, aPath(tools)),
  'DmaBufServer with an abstract name': (tools) => exchange(tools, tools.name()),
  'DmaBufServer over a dead one': (tools) => {
    const path = aPath(tools);
    const { core, own, begin } = tools;
    ForeignSocket.leaveStale(path);
    begin();
    return own(core.DmaBufChannel.listen(path)).closed;
  },
  'DmaBufServer where a file is': (tools) => {
    const path = aPath(tools);
    writeFileSync(path, '');
    tools.begin();
    try {
      tools.own(tools.core.DmaBufChannel.listen(path));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
      return existsSync(path);
    }
    return 'listens';
  },
  'DmaBufServer.accept, waiting': async (tools) => {
    const { core, own, begin, name } = tools;
    const path = name();
    const server = own(core.DmaBufChannel.listen(path));
    begin();
    const both = [
      server.accept({ timeout: patience }),
      core.DmaBufChannel.connect(path, { timeout: patience }),
    ];
    // One that fails leaves the other to be closed with the server, or to come all the same.
    for (const one of both) one.then(own, () => {});
    const [channel, client] = await Promise.all(both);
    return [client?.closed, channel?.closed];
  },
  'DmaBufServer, iterated': async (tools) => {
    const { core, own, begin, name } = tools;
    const path = name();
    const server = own(core.DmaBufChannel.listen(path));
    own(await core.DmaBufChannel.connect(path, { timeout: patience }));
    begin();
    const check = limited(tools, server);
    for await (const channel of server) {
      own(channel);
      break;
    }
    check();
    return server.closed;
  },
  'DmaBufServer.close': ({ core, begin, name }) => {
    const server = core.DmaBufChannel.listen(name());
    begin();
    server.close();
    return server.closed;
  },
};
