// Debian mirrors of a test's own, with a cache that is theirs.

import { once } from 'node:events';
import { createReadStream, existsSync, mkdirSync, statSync, symlinkSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { cacheFolder } from '../../lib/vm/cache-folder.js';
import { provideTools } from '../../lib/vm/provision.js';
import { AptRepository } from './apt-repository.js';

/** A mirror, and a cache that has the tools. */
export async function mirrorWithTools(): Promise<AptRepository> {
  await provideTools({ progress: () => {}, signal: undefined });
  const debian = new AptRepository();
  const cache = join(debian.env.XDG_CACHE_HOME, 'dmabuf');
  mkdirSync(cache, { recursive: true });
  symlinkSync(join(cacheFolder(), 'busybox-static'), join(cache, 'busybox-static'));
  return debian;
}

/** A server that shows a mirror, and stops in the middle of what it is told to. */
export class StoppingServer {
  readonly #server: Server;
  #stopAt: RegExp | undefined;
  #onStop: () => void = () => {};
  readonly #closed: Promise<unknown>[] = [];

  private constructor(debian: AptRepository) {
    this.#server = createServer((request, response) => {
      const path = join(dirname(debian.mirror), decodeURIComponent(request.url ?? ''));
      if (!existsSync(path)) {
        response.writeHead(404).end();
        return;
      }
      const { size } = statSync(path);
      response.writeHead(200, { 'content-length': size });
      const isHere = this.#stopAt?.test(path) === true;
      const file = createReadStream(path, isHere ? { end: Math.floor(size / 2) } : {});
      file.pipe(response, { end: !isHere });
      // A client that has gone leaves the pipe with its source open.
      this.#closed.push(once(file, 'close'));
      response.on('close', () => file.destroy());
      if (isHere) this.#onStop();
    });
  }

  static async start(debian: AptRepository): Promise<StoppingServer> {
    const server = new StoppingServer(debian);
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    debian.readFrom(`http://127.0.0.1:${(server.#server.address() as AddressInfo).port}/debian`);
    return server;
  }

  /** Resolves when somebody has a part of such a file, and waits for the rest. */
  stopAt(path: RegExp): Promise<void> {
    this.#stopAt = path;
    return new Promise((resolve) => {
      this.#onStop = resolve;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    await Promise.all(this.#closed);
  }
}
