// Streams and their servers.

import { closeSync, existsSync, openSync, unlinkSync } from 'node:fs';
import type { ChannelMessage, FdStream, Sendable } from 'dmabuf';
import { ForeignSocket } from '../../support/sockets.js';
import { asJson, kindsOf, patience, type Scripts, type Tools } from '../script.js';

function aPair({ core, own }: Tools): [FdStream, FdStream] {
  const [here, there] = core.FdStream.pair();
  return [quiet(own(here)), quiet(own(there))];
}

/** A stream whose errors are not events that end the process: the script reports them. */
function quiet(stream: FdStream): FdStream {
  stream.on('error', () => {});
  return stream;
}

/** An ordinary file, which is neither a dma-buf nor a sync_file. */
function aFile({ after }: Tools): number {
  const fd = openSync('/etc/hostname', 'r');
  after(() => closeSync(fd));
  return fd;
}

function ownHandles({ after }: Tools, handles: readonly Sendable[]): void {
  after(() => {
    for (const handle of handles) {
      if (typeof handle === 'number') closeSync(handle);
      else handle.close();
    }
  });
}

function shown(tools: Tools, message: ChannelMessage | undefined): string {
  if (message === undefined) return 'the end';
  ownHandles(tools, message.handles);
  return `${Buffer.from(message.data)} ${kindsOf(message.handles)}`;
}

/** Resolves when a stream ends; rejects with its error, or when this takes too long. */
function ended(stream: FdStream, event: 'end' | 'finish'): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(Object.assign(new Error('the script is out of patience'), { code: 'ETIMEDOUT' }));
    }, patience);
    const done = (error?: Error): void => {
      clearTimeout(timer);
      if (error === undefined) resolve();
      else reject(error);
    };
    stream.once(event, () => done());
    stream.once('error', done);
  });
}

async function exchange(tools: Tools, path: string): Promise<unknown> {
  const { core, own, buffer, begin } = tools;
  begin();
  const server = own(core.FdStream.listen(path));
  const client = quiet(own(await core.FdStream.connect(path, { timeout: patience })));
  const stream = quiet(own(await server.accept({ timeout: patience })));
  await client.send('x', [buffer]);
  const message = await stream.receive({ timeout: patience });
  return [
    shown(tools, message),
    client.peer.pid === process.pid,
    server.fd > 0,
    server.address === path,
    server.closed,
  ];
}

export const streams: Scripts = {
  'FdStream.pair': ({ core, begin, own }) => {
    begin();
    const [here, there] = core.FdStream.pair({ maxHandles: 4 });
    own(here);
    own(there);
    return [here.fd > 0, here.peer.pid === process.pid];
  },
  'FdStream.send, receive': async (tools) => {
    const [here, there] = aPair(tools);
    const { buffer, own, begin } = tools;
    const file = own(buffer.exportSyncFile('write'));
    const other = aFile(tools);
    begin();
    await here.send('hello', [buffer, file, other]);
    return shown(tools, await there.receive({ timeout: patience }));
  },
  'FdStream.receive, waiting': async (tools) => {
    const [here, there] = aPair(tools);
    tools.begin();
    const waiting = there.receive({ timeout: patience });
    waiting.catch(() => {}); // it may be refused at once
    await new Promise((resolve) => setImmediate(resolve));
    const [message] = await Promise.all([waiting, here.send('late', [tools.buffer])]);
    return shown(tools, message);
  },
  'FdStream as a Duplex': async (tools) => {
    const [here, there] = aPair(tools);
    const { buffer, begin } = tools;
    begin();
    await here.send('x', [buffer]);
    const over = Promise.all([ended(here, 'finish'), ended(there, 'end')]);
    over.catch(() => {});
    here.end('y');
    let text = `${there.read() ?? ''}`;
    const handles: Sendable[] = [];
    there.on('data', (chunk: Buffer) => {
      text += chunk;
      for (let handle = there.takeHandle(); handle !== undefined; handle = there.takeHandle())
        handles.push(handle);
    });
    ownHandles(tools, handles);
    await over;
    return [text, kindsOf(handles)];
  },
  'FdStream.release': (tools) => {
    const [here] = aPair(tools);
    tools.begin();
    const fd = here.release();
    tools.after(() => closeSync(fd));
    return here.destroyed;
  },
  'FdStream.close with descriptors in its queue': async (tools) => {
    const [here, there] = aPair(tools);
    await here.send('never read', [tools.buffer, aFile(tools)]);
    tools.begin();
    there.close();
    return there.destroyed;
  },
  'FdStream.adopt': (tools) => {
    const [here] = tools.core.FdStream.pair();
    const fd = here.release();
    let adopted = false;
    tools.after(() => {
      if (!adopted) closeSync(fd);
    });
    tools.begin();
    const stream = tools.own(tools.core.FdStream.adopt(fd));
    adopted = true;
    return stream.destroyed;
  },
  'FdStreamServer.adopt': async (tools) => {
    const listener = ForeignSocket.serve(tools.name(), 'stream');
    let adopted = false;
    tools.after(() => {
      if (!adopted) listener.close();
    });
    tools.begin();
    const server = tools.own(tools.core.FdStreamServer.adopt(listener.fd));
    listener.release();
    adopted = true;
    return server.closed;
  },
  'FdStream and FdStreamServer as JSON': (tools) => {
    const { core, own, begin, name } = tools;
    const [here] = aPair(tools);
    const server = own(core.FdStream.listen(name()));
    begin();
    return asJson(here, server).replace(/"address":"[^"]*"/, '"address"');
  },
  'FdStreamServer at a path': (tools) => {
    const path = `/tmp/inject-${process.pid}.sock`;
    tools.after(() => {
      if (existsSync(path)) unlinkSync(path);
    });
    return exchange(tools, path);
  },
  'FdStreamServer with an abstract name': (tools) => exchange(tools, tools.name()),
  'FdStreamServer, iterated': async (tools) => {
    const { core, own, begin, name } = tools;
    const path = name();
    const server = own(core.FdStream.listen(path));
    own(await core.FdStream.connect(path, { timeout: patience }));
    begin();
    const timer = setTimeout(() => server.close(), patience);
    tools.after(() => clearTimeout(timer));
    for await (const stream of server) {
      own(stream);
      break;
    }
    return server.closed;
  },
  'FdStreamServer.close': ({ core, begin, name }) => {
    const server = core.FdStream.listen(name());
    begin();
    server.close();
    return server.closed;
  },
};
