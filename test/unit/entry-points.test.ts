import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import * as imported from 'dmabuf';
import * as importedInspect from 'dmabuf/inspect';
import { packageRoot } from '../support/programs.js';

const require = createRequire(import.meta.url);

describe('the entry points', () => {
  test("require('dmabuf') gives the same classes as import", () => {
    const required = require('dmabuf') as typeof imported;
    assert.equal(required.DmaBuf, imported.DmaBuf);
    assert.equal(required.DmaBufError, imported.DmaBufError);
  });

  test("require('dmabuf/inspect') gives the same functions as import", () => {
    const required = require('dmabuf/inspect') as typeof importedInspect;
    assert.equal(required.parseFdInfo, importedInspect.parseFdInfo);
  });

  test('DmaBuf.pageSize is the size of a page', () => {
    const size = execFileSync('getconf', ['PAGESIZE'], { encoding: 'utf8' });
    assert.equal(imported.DmaBuf.pageSize, Number(size));
  });

  test('dmabuf exports what the contract names', () => {
    const names = [
      'CpuAccess',
      'DmaBuf',
      'DmaBufError',
      'DmaBufMapping',
      'DmaHeap',
      'allocate',
      'allocateSync',
    ];
    const functions = Object.entries(imported).filter(([, value]) => typeof value === 'function');
    const exported = new Set(functions.map(([name]) => name));
    assert.deepEqual(
      names.filter((name) => !exported.has(name)),
      [],
    );
  });

  test('all that they export is used by the project that tests the types as users see them', () => {
    const read = (...path: string[]) => readFileSync(join(packageRoot, ...path), 'utf8');
    const used = new Set(read('test/types/consumer.ts').match(/\w+/g));
    const exported = ['.', 'frame', 'inspect', 'metrics', 'vm'].flatMap((entry) =>
      [...read('dist/lib', entry, 'index.d.ts').matchAll(/^export \{(.*?)\}/gms)].flatMap(
        ([, names = '']) => names.match(/\w+(?=,|\s*$)/g) ?? [],
      ),
    );
    assert.ok(exported.includes('DmaBuf') && exported.includes('VmErrorCode'));
    assert.deepEqual(
      exported.filter((name) => !used.has(name)),
      [],
    );
  });

  test('files inside the package are not reachable', async () => {
    const inside = 'dmabuf/dist/lib/native.js';
    await assert.rejects(import(inside), { code: 'ERR_PACKAGE_PATH_NOT_EXPORTED' });
  });
});
