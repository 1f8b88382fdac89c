import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';
import * as imported from 'dmabuf';
import * as importedInspect from 'dmabuf/inspect';

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

  test('files inside the package are not reachable', async () => {
    const inside = 'dmabuf/dist/lib/native.js';
    await assert.rejects(import(inside), { code: 'ERR_PACKAGE_PATH_NOT_EXPORTED' });
  });
});
