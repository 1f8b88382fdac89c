// The public functions, by the declarations that the package ships.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../support/programs.js';

/** The entry points whose functions use the addon; dmabuf/vm runs QEMU. */
const entries = ['index', 'frame/index', 'inspect/index', 'metrics/index'];

function read(file: string): string {
  return readFileSync(join(packageRoot, 'dist/lib', file), 'utf8');
}

function exportedNames(): Set<string> {
  const names = new Set<string>();
  for (const entry of entries) {
    for (const [, list = ''] of read(`${entry}.d.ts`).matchAll(/^export (?:type )?\{([^}]*)\}/gm)) {
      for (const name of list.split(',')) names.add(name.replace('type ', '').trim());
    }
  }
  return names;
}

const member = /^ {4}(?:static )?(?:get )?(\w+|\[Symbol\.\w+\])(?:<[^(]*>)?\(/;

/**
 * `allocate` and `DmaBuf.map`, accessors and constructors included. Not what is documented to be the same as another, nor
 * what is internal.
 */
export function declaredFunctions(): string[] {
  const exported = exportedNames();
  const functions = new Set<string>();
  for (const file of readdirSync(join(packageRoot, 'dist/lib'), { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.d.ts')) continue;
    let owner: string | undefined;
    let comment = '';
    for (const line of read(file).split('\n')) {
      owner =
        /^export (?:declare (?:abstract )?class|interface) (\w+)/.exec(line)?.[1] ??
        (line === '}' ? undefined : owner);
      if (/^ *(\/\*)?\*/.test(line)) {
        comment = line.includes('/**') ? line : comment + line;
        continue;
      }
      const name =
        owner === undefined ? /^export declare function (\w+)/.exec(line)?.[1] : member.exec(line)?.[1];
      if (name !== undefined && exported.has(owner ?? name) && !/@internal|The same as `/.test(comment)) {
        functions.add(owner === undefined ? name : `${owner}.${name}`);
      }
      comment = '';
    }
  }
  return [...functions].sort();
}
