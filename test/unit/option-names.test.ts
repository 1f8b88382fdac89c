import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import * as dmabuf from 'dmabuf';
import * as frame from 'dmabuf/frame';
import * as inspect from 'dmabuf/inspect';
import * as metrics from 'dmabuf/metrics';
import * as vm from 'dmabuf/vm';
import { leavesNothing } from '../support/descriptors.js';
import { errorOf } from '../support/expect.js';
import { bufferOptionRows, countedOptions, optionRows } from '../support/option-rows.js';
import { packageRoot } from '../support/programs.js';

/** The functions and methods with a parameter of that name in the package's declarations: `allocate`, `DmaBuf.map`. */
function* declaredWithOptions(): Generator<string> {
  const exported = new Set([dmabuf, frame, inspect, metrics, vm].flatMap((entry) => Object.keys(entry)));
  const folder = join(packageRoot, 'dist/lib');
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.d.ts')) continue;
    let owner: string | undefined;
    for (const line of readFileSync(join(folder, file), 'utf8').split('\n')) {
      owner =
        /^export declare (?:abstract )?class (\w+)/.exec(line)?.[1] ?? (line === '}' ? undefined : owner);
      const [, name] =
        /^export declare function (\w+)[^(]*\(.*\boptions\??:/.exec(line) ??
        /^ {4}(?:static )?(\w+)(?:<[^(]*>)?\(.*\boptions\??:/.exec(line) ??
        [];
      if (name === undefined) continue;
      if (exported.has(owner ?? name)) yield owner === undefined ? name : `${owner}.${name}`;
    }
  }
}

test('every public function that takes options has a row in test/support/option-rows.ts', () => {
  const declared = [...declaredWithOptions()].sort();
  assert.ok(declared.length > 20, 'the declarations are not read right');
  assert.deepEqual(declared, Object.keys({ ...optionRows, ...bufferOptionRows }).sort());
});

describe('an option that does not exist is refused by', () => {
  for (const [name, call] of Object.entries(optionRows)) {
    test(name, () =>
      leavesNothing(async () => {
        const error = await errorOf(async () => call({ nonsence: 1 } as never));
        assert.equal(error.code, 'ERR_INVALID_ARG_VALUE', error.message);
        assert.match(error.message, /'nonsence' here\. The options are: \w+/);
      }),
    );
  }
});

describe('each option is read once by', () => {
  for (const [name, call] of Object.entries(optionRows)) {
    test(name, () =>
      leavesNothing(async () => {
        const { options, reads } = countedOptions();
        await Promise.resolve()
          .then(() => call(options))
          .catch(() => undefined); // There may be no such device here.
        assert.ok(reads.size > 0, 'no option was read');
        assert.deepEqual(
          [...reads].filter(([, count]) => count > 1),
          [],
        );
      }),
    );
  }
});
