// A registry on this machine that has one package, which is published to it; for all others it names the one that npm is
// configured for.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';

/** The scripts that make package managers run something on installing. */
export const installScripts = ['preinstall', 'install', 'postinstall'];

async function bodyOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return JSON.parse(Buffer.concat(parts).toString());
}

/** Starts it. `published` is what its package's manifest has become; the options are what npm needs to publish there. */
export async function localRegistry() {
  const upstream = execFileSync('npm', ['config', 'get', 'registry'], { encoding: 'utf8' }).trim();
  const registry = { url: '', published: undefined, options: [], close: () => server.close() };
  let packument;
  let tarball;

  const server = createServer(async (request, response) => {
    const [, name, rest] = /^\/([^/?]+)(\/.*)?$/.exec(request.url) ?? [];
    if (request.method === 'PUT') {
      const { _attachments, ...document } = await bodyOf(request);
      [registry.published] = Object.values(document.versions);
      tarball = Buffer.from(Object.values(_attachments)[0].data, 'base64');
      const hasInstallScript = installScripts.some((script) => script in (registry.published.scripts ?? {}));
      Object.assign(registry.published, { hasInstallScript });
      packument = { ...document, time: { [registry.published.version]: '2026-01-01T00:00:00.000Z' } };
      response.writeHead(201, { 'content-type': 'application/json' }).end('{}');
    } else if (packument === undefined || name !== packument.name) {
      response.writeHead(302, { location: new URL(request.url.slice(1), upstream).href }).end();
    } else if (rest === undefined) {
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(packument));
    } else {
      response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(tarball);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const host = `127.0.0.1:${server.address().port}`;
  registry.url = `http://${host}/`;
  registry.options = [`--registry=${registry.url}`, `--//${host}/:_authToken=none`, '--provenance=false'];
  return registry;
}
