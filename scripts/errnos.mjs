// node scripts/errnos.mjs: writes the table of lib/errnos.ts anew, from the kernel's headers and the C library's texts.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './setup.mjs';

/** The errors of the kernel's headers, by their numbers, aliases left out: asm-generic, as x64 and arm64 have them. */
function fromHeaders() {
  const names = new Map();
  for (const header of ['errno-base.h', 'errno.h']) {
    const text = readFileSync(`/usr/include/asm-generic/${header}`, 'utf8');
    for (const [, name, number] of text.matchAll(/^#define\s+(E\w+)\s+(\d+)/gm))
      names.set(Number(number), name);
  }
  return names;
}

/** What strerror(3) says of each. */
function texts(numbers) {
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-errnos-'));
  try {
    const source = join(folder, 'texts.c');
    const lines = numbers.map((number) => `puts(strerror(${number}));`).join('\n');
    writeFileSync(
      source,
      `#include <stdio.h>\n#include <string.h>\nint main(void) {\n${lines}\nreturn 0;\n}\n`,
    );
    execFileSync('gcc', ['-o', join(folder, 'texts'), source]);
    return execFileSync(join(folder, 'texts'), { encoding: 'utf8', env: { LC_ALL: 'C' } })
      .trimEnd()
      .split('\n');
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const names = fromHeaders();
const numbers = [...names.keys()].sort((a, b) => a - b);
const said = texts(numbers);
const table = numbers.map((number, index) => {
  // As Node has it, where the first word is none that has to be written large.
  const text = said[index].replace(/^[A-Z](?=[a-z ])/, (letter) => letter.toLowerCase());
  return `${number} ${names.get(number)} ${text}`;
});
const file = join(root, 'lib/errnos.ts');
const source = readFileSync(file, 'utf8');
writeFileSync(file, source.replace(/(const table = `)[^`]*/, `$1\n${table.join('\n')}\n`));
