import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { createError, partsOf } from '../../lib/errors.js';

/** `number name text` of every errno of the system's headers but aliases, by the C compiler and the C library. */
function fromC(): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-errnos-'));
  try {
    const macros = execFileSync('gcc', ['-E', '-dM', '-include', 'errno.h', '-x', 'c', '/dev/null'], {
      encoding: 'utf8',
    });
    const names = [...macros.matchAll(/^#define (E[A-Z0-9]+) \d+$/gm)].map((match) => match[1] as string);
    const prints = names.map((name) => `printf("%d ${name} %s\\n", ${name}, strerror(${name}));`).join('\n');
    const source = join(folder, 'errnos.c');
    const includes = ['errno', 'stdio', 'string'].map((header) => `#include <${header}.h>`).join('\n');
    writeFileSync(source, `${includes}\nint main(void) {\n${prints}\nreturn 0;\n}\n`);
    execFileSync('gcc', ['-o', join(folder, 'errnos'), source]);
    const output = execFileSync(join(folder, 'errnos'), { encoding: 'utf8', env: { LC_ALL: 'C' } });
    return output.trimEnd().split('\n');
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("an errno's name and text", () => {
  test('are those of the headers and of strerror, for every one that they have', () => {
    const lines = fromC();
    assert.ok(lines.length > 125, `only ${lines.length}`);
    for (const line of lines) {
      const [, number, name, text] = /^(\d+) (\w+) (.+)$/.exec(line) as unknown as [
        string,
        string,
        string,
        string,
      ];
      const error = createError(-Number(number));
      assert.deepEqual([error.code, error.errno], [name, -Number(number)]);
      assert.equal(partsOf(error).what.toLowerCase(), `${name}: ${text}`.toLowerCase());
    }
  });

  for (const [errno, name] of [
    [-11, 'EAGAIN'],
    [-35, 'EDEADLK'],
    [-37, 'ENOLCK'],
    [-62, 'ETIME'],
    [-77, 'EBADFD'],
    [-95, 'EOPNOTSUPP'],
    [-133, 'EHWPOISON'],
    [-512, 'ERESTARTSYS'],
    [-517, 'EPROBE_DEFER'],
    [-524, 'ENOTSUPP'],
    [-530, 'ERECALLCONFLICT'],
  ] as const) {
    test(`of ${errno} is ${name}`, () => assert.equal(createError(errno).code, name));
  }

  for (const errno of [-41, -58, -134, -520, -4095]) {
    test(`of ${errno}, which Linux does not have, is its number`, () => {
      assert.equal(
        createError(errno, 'ioctl').message,
        `Unknown system error ${errno}: unknown error, ioctl`,
      );
    });
  }
});
