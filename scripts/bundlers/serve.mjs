// A server that is asked once.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** What the server answers to GET /use, once it has said that it is ready. */
export async function serveOnce([program, ...args], cwd) {
  const port = await freePort();
  const env = { ...process.env, PORT: String(port), HOSTNAME: '127.0.0.1', NEXT_TELEMETRY_DISABLED: '1' };
  const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  try {
    let text = '';
    await new Promise((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding('utf8').on('data', (part) => {
          text += part;
          if (/Ready/.test(text)) resolve();
        });
      }
      child.once('error', reject);
      child.once('exit', (code, signal) =>
        reject(new Error(`the server ended with ${signal ?? code}:\n${text}`)),
      );
    });
    const answer = await fetch(`http://127.0.0.1:${port}/use`, { signal: AbortSignal.timeout(60_000) });
    return `${await answer.text()}${text}`;
  } finally {
    if (child.exitCode === null && child.kill()) await once(child, 'exit');
  }
}
