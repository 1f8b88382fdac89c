import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseListen } from '../../lib/cli/metrics-server.js';

describe('where dmabuf metrics listens', () => {
  for (const [text, address] of [
    ['9100', { host: '127.0.0.1', port: 9100 }],
    ['0', { host: '127.0.0.1', port: 0 }],
    ['0.0.0.0:80', { host: '0.0.0.0', port: 80 }],
    ['localhost:65535', { host: 'localhost', port: 65535 }],
    ['[::1]:9100', { host: '::1', port: 9100 }],
    ['unix:/run/dmabuf.sock', { path: '/run/dmabuf.sock' }],
    ['unix:relative', { path: 'relative' }],
  ] as const) {
    test(`can be ${text}`, () => assert.deepEqual(parseListen(text), address));
  }

  for (const text of [
    '',
    ':9100',
    '65536',
    '::1:9100',
    '[::1]',
    'host',
    'host:',
    '1.5',
    '-1',
    '0x10',
    ' 1',
    'a b:1',
    'unix:',
  ]) {
    test(`cannot be '${text}'`, () =>
      assert.throws(() => parseListen(text), { code: 'commander.invalidArgument' }));
  }

  test('cannot be a path longer than a socket’s may be', () => {
    assert.throws(() => parseListen(`unix:/${'x'.repeat(107)}`), { code: 'commander.invalidArgument' });
  });
});
